"""Clips are a function of class and seed, and opposites are each other's reversal, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sefar_training.synthgym import CLASSES, POSE_NAMES, PRESETS, ActionClass, RenderedClip, render_clip
from sefar_training.synthgym.classes import action_class

SEEDS = st.integers(0, 2**63 - 1)
PRESET_NAMES = st.sampled_from(sorted(PRESETS))
PAIRED = st.sampled_from([action for action in CLASSES if action.opposite is not None])


def same(one: RenderedClip, other: RenderedClip) -> bool:
    return (
        np.array_equal(one.frames, other.frames)
        and np.array_equal(one.pose, other.pose)
        and (one.fps, one.crf, one.caption) == (other.fps, other.crf, other.caption)
    )


@settings(max_examples=12, deadline=None)
@given(action=st.sampled_from(CLASSES), seed=SEEDS, preset=PRESET_NAMES)
def test_the_same_class_and_seed_give_the_same_clip(action: ActionClass, seed: int, preset: str) -> None:
    clip = render_clip(action, seed, preset)
    assert same(clip, render_clip(action.index, seed, preset))
    assert same(clip, render_clip(action.name, seed, PRESETS[preset]))
    assert not np.array_equal(clip.frames[0], render_clip(action, seed + 1, preset).frames[0])


@settings(max_examples=20, deadline=None)
@given(action=PAIRED, seed=SEEDS, preset=PRESET_NAMES)
def test_opposites_are_the_same_frames_in_reversed_order(action: ActionClass, seed: int, preset: str) -> None:
    assert action.opposite is not None
    clip, other = render_clip(action, seed, preset), render_clip(action.opposite, seed, preset)
    np.testing.assert_array_equal(clip.frames, other.frames[::-1])
    np.testing.assert_array_equal(clip.pose, other.pose[::-1])
    assert (clip.fps, clip.crf) == (other.fps, other.crf)
    assert not np.array_equal(clip.frames, other.frames)


@settings(max_examples=30, deadline=None)
@given(action=st.sampled_from(CLASSES), seed=SEEDS, name=PRESET_NAMES)
def test_clips_keep_to_their_preset(action: ActionClass, seed: int, name: str) -> None:
    preset = PRESETS[name]
    clip = render_clip(action, seed, name)
    count, height, width, channels = clip.frames.shape
    assert clip.frames.dtype == np.uint8 and channels == 3
    assert preset.frames[0] <= count <= preset.frames[1]
    assert (width, height) in preset.sizes
    assert clip.fps in preset.rates
    assert preset.crf[0] <= clip.crf <= preset.crf[1]
    assert clip.action is action


@settings(max_examples=30, deadline=None)
@given(action=st.sampled_from(CLASSES), seed=SEEDS)
def test_poses_are_finite_and_in_range(action: ActionClass, seed: int) -> None:
    clip = render_clip(action, seed, "standard")
    assert clip.pose.dtype == np.float32
    assert clip.pose.shape == (len(clip.frames), len(POSE_NAMES))
    pose = dict(zip(POSE_NAMES, clip.pose.T, strict=True))
    for axis in ("up", "front", "left"):
        assert (np.hypot(pose[f"{axis}_x"], pose[f"{axis}_y"]) <= 1 + 1e-6).all()
    for joint in ("hip", "knee", "split", "arm", "centre_x", "centre_y"):
        assert (np.abs(pose[joint]) <= 1.2).all(), joint


def test_mirroring_flips_the_picture_and_the_poses_with_it() -> None:
    """Mirrored clips are told by their own params; facing follows what is seen, not the body's side."""
    facing: dict[bool, list[float]] = {True: [], False: []}
    for seed in range(30):
        clip = render_clip("(FX) split jump", seed, "easy")
        facing[clip.params["mirror"]].append(float(clip.pose[0, POSE_NAMES.index("front_x")]))
    assert min(facing[False]) > 0.9
    assert max(facing[True]) < -0.9


@pytest.mark.parametrize("action", CLASSES, ids=lambda action: action.name)
def test_something_stands_out_and_moves_with_the_body_in_the_picture(action: ActionClass) -> None:
    clip = render_clip(action, 3, "easy")
    frames = clip.frames.astype(np.int16)
    moving = np.abs(frames - np.median(frames, axis=0)).max(axis=(0, 3)) > 40
    assert moving.mean() > 0.02
    centre = clip.pose[:, [POSE_NAMES.index("centre_x"), POSE_NAMES.index("centre_y")]]
    assert np.abs(centre).max() < 0.9


def test_no_class_leaks_by_side_of_the_twist_or_mirror() -> None:
    action = action_class("(FX) salto forward stretched with 1 turn")
    clips = [render_clip(action, seed, "easy") for seed in range(24)]
    mirrored = sum(clip.params["mirror"] for clip in clips)
    assert 4 <= mirrored <= 20
    # The chest's first departure from the side view, up to the mirror: to the left or to the right.
    column = POSE_NAMES.index("left_x")
    sides = {bool(np.abs(clip.pose[:, column]).argmax() * 2 < len(clip.pose)) for clip in clips}
    assert sides == {True, False}


@pytest.mark.parametrize("name", ["medium", ""])
def test_unknown_preset_is_named_with_the_known_ones(name: str) -> None:
    with pytest.raises(ValueError, match="easy, standard"):
        render_clip(0, 0, name)
