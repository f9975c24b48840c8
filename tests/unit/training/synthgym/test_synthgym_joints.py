"""True joints agree with what is drawn, and are the joints of a body."""

from __future__ import annotations

import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sefar_serve.lists import ClipKey
from sefar_serve.pose.joints import EDGES, HIPS, NUMBER, SHOULDERS
from sefar_serve.sampling import Sampling
from sefar_training.data import TrueJoints
from sefar_training.data.joint_clips import interpolate, positions
from sefar_training.model import PoseNormalizer
from sefar_training.synthgym import CLASSES, PRESETS, ActionClass, clip_joints, clip_seed, render_clip, write_dataset
from sefar_training.synthgym.joints import ESTIMATOR, METRES, SHA256
from sefar_training.synthgym.nuisance import draw_look
from sefar_training.synthgym.skeleton import FOREARM, SHIN, THIGH

SEEDS = st.integers(0, 2**63 - 1)
PRESET_NAMES = st.sampled_from(sorted(PRESETS))
PAIRED = st.sampled_from([action for action in CLASSES if action.opposite is not None])


def place(joints: np.ndarray, name: str) -> np.ndarray:
    return joints[:, 0, NUMBER[name], :3]


@settings(max_examples=20, deadline=None)
@given(action=st.sampled_from(CLASSES), seed=SEEDS, preset=PRESET_NAMES)
def test_bones_keep_their_lengths_and_the_hips_are_at_0(action: ActionClass, seed: int, preset: str) -> None:
    joints = clip_joints(action, seed, preset)
    assert joints.dtype == np.float32 and joints.shape[1:] == (1, 15, 4) and (joints[..., 3] == 1).all()
    np.testing.assert_allclose(joints[:, 0, list(HIPS), :3].mean(axis=1), 0, atol=1e-6)
    for a, b in EDGES:
        length = np.linalg.norm(joints[:, 0, a, :3] - joints[:, 0, b, :3], axis=-1)
        np.testing.assert_allclose(length, length[0], atol=1e-5)
    for a, b, length in (("hip", "knee", THIGH), ("knee", "ankle", SHIN), ("elbow", "wrist", FOREARM)):
        bone = place(joints, f"left_{a}") - place(joints, f"left_{b}")
        np.testing.assert_allclose(np.linalg.norm(bone, axis=-1), METRES * length, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(action=PAIRED, seed=SEEDS, preset=PRESET_NAMES)
def test_opposites_are_the_same_joints_in_reversed_order(action: ActionClass, seed: int, preset: str) -> None:
    assert action.opposite is not None
    joints, other = clip_joints(action, seed, preset), clip_joints(action.opposite, seed, preset)
    np.testing.assert_array_equal(joints, other[::-1])
    assert not np.array_equal(joints, other)


@settings(max_examples=20, deadline=None)
@given(action=st.sampled_from(CLASSES), seed=SEEDS, preset=PRESET_NAMES)
def test_left_is_the_persons_own_in_mirrored_clips_too(action: ActionClass, seed: int, preset: str) -> None:
    joints = clip_joints(action, seed, preset)
    shoulders = joints[:, 0, list(SHOULDERS), :3]
    left, up = shoulders[:, 0] - shoulders[:, 1], shoulders.mean(axis=1)
    front = np.cross(left, up)  # x to the right, y down, z away: right-handed
    nose = place(joints, "nose") - shoulders.mean(axis=1)
    assert ((front * nose).sum(axis=-1) > 0).all()


def drawn_at(action: ActionClass, seed: int, joints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Frames of a clip of the preset easy, and where points (T,N,3) in metres from the hips are drawn, (T,N,2)."""
    clip = render_clip(action, seed, "easy")
    height, width = clip.frames.shape[1:3]
    look = draw_look(np.random.default_rng([seed, action.as_forward.index]), PRESETS["easy"])
    scale = look.zoom * height * (0.84 if action.event == "UB" else 1)
    hips = (clip.pose[:, -2:] * (1, -1) + 1) / 2 * (width, height)
    return clip.frames, hips[:, None] + joints[..., :2] / METRES * scale


@pytest.mark.parametrize("name", ["(FX) salto backward stretched with 1 turn", "(BB) 2 turn on one leg"])
@pytest.mark.parametrize("seed", range(6))
def test_the_nearer_shin_is_drawn_where_its_joints_are_and_in_its_colour(name: str, seed: int) -> None:
    """The left limbs are lighter, or the right ones in a mirrored clip, whose left they become."""
    action = next(action for action in CLASSES if action.name == name)
    joints = clip_joints(action, seed, "easy")
    shins = [(place(joints, f"{side}_knee") + place(joints, f"{side}_ankle")) / 2 for side in ("left", "right")]
    frames, pixels = drawn_at(action, seed, np.stack(shins, axis=1))
    look = draw_look(np.random.default_rng([seed, action.as_forward.index]), PRESETS["easy"])
    shades = np.array([look.skin, 0.55 * np.array(look.skin)])[:: -1 if look.mirror else 1]
    nearer = (shins[0][:, 2] > shins[1][:, 2]).astype(int)
    frame = np.flatnonzero(np.abs(shins[0][:, 2] - shins[1][:, 2]) > 0.1)
    x, y = np.round(pixels[frame, nearer[frame]] - 0.5).astype(int).T
    found = frames[frame, y, x].astype(float)
    away = np.abs(found[:, None] - shades).max(axis=-1)
    right = away[np.arange(len(frame)), nearer[frame]] < 20
    assert len(frame) > 8 and right.mean() > 0.9


def test_joints_move_smoothly_with_as_many_frames_as_the_clip() -> None:
    for action in CLASSES[::9]:
        joints = clip_joints(action, 5)
        assert len(joints) == len(render_clip(action, 5).frames)
        assert max(np.abs(b - a).max() for a, b in pairwise(joints)) < 0.9


def test_a_data_set_gets_the_joints_of_all_clips_without_drawing_them_again(small_gym: Path, tmp_path: Path) -> None:
    out = tmp_path / "gym"
    shutil.copytree(small_gym, out)
    before = {file: file.stat().st_mtime_ns for file in (out / "videos").rglob("*.mp4")}
    write_dataset(out, "easy", 0, {"train": 5, "val": 1, "test": 1}, workers=1, progress=False, joints=True)
    assert before == {file: file.stat().st_mtime_ns for file in (out / "videos").rglob("*.mp4")}
    source = TrueJoints(out / "joints", 1)
    assert source.origin == (ESTIMATOR, SHA256) and ESTIMATOR == "true:synthgym"
    clips = list(map(ClipKey, before))
    found, errors = source.read(clips)
    assert len(found) == len(clips) == 7 * len(CLASSES) and not errors
    for split in ("train", "test"):
        clip = out / "videos" / split / f"{CLASSES[20].index:02d}_0000.mp4"
        expected = clip_joints(CLASSES[20], clip_seed(0, split, CLASSES[20], 0), "easy")
        np.testing.assert_array_equal(found[ClipKey(clip)], expected)


@pytest.mark.parametrize(("sampling", "allowed"), [(Sampling((2, 2, 4)), 15), (Sampling((4, 4, 8)), 8)])
def test_clips_are_turned_to_the_same_direction_from_wherever_the_camera_looks(
    sampling: Sampling, allowed: float
) -> None:
    """The mean left-right line of a clip does not vanish in whole twists: the slow ends of a movement outweigh it.

    Weighting frames by how upright the torso is would be more exact in twisted saltos, but turns circles with a twist,
    which begin in a handstand, by 180 degrees.
    """
    preset = replace(PRESETS["standard"], azimuth=180.0)
    normalize = PoseNormalizer()
    for action in CLASSES:
        for seed in range(3):
            joints = clip_joints(action, seed, preset)
            seen = interpolate(joints, np.sort(positions(len(joints), sampling)))
            # The first frame is not part of the mean, but is turned with the clip: the gymnast has not begun to twist.
            both = torch.from_numpy(np.concatenate([joints[:1], seen]))[None].clone()
            both[0, 0, ..., 3] = 0
            start = normalize(both)[0, 0, 0, list(SHOULDERS)]
            x, _, z = (start[0] - start[1])[:3].tolist()
            assert abs(np.degrees(np.arctan2(z, x))) < allowed, action.name
