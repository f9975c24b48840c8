"""MediaPipe's models on real clips: bodies of the right size, in any thread, however a picture is turned."""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from grey_clips import encode_grey_clip
from PIL import Image
from pose_models import BOTH, POSE, write_tiny_model
from typer.testing import CliRunner

from sefar_features import open_features
from sefar_serve.cli import app
from sefar_serve.clip import Sampling, Video
from sefar_serve.extract.clips import ClipRef
from sefar_serve.extract.decoders import DecoderPool
from sefar_serve.inputs import ModelClip, load_inputs
from sefar_serve.pose import JOINTS, Estimators, PoseSetupError, Tracker, load_poses
from sefar_serve.pose.litert import LiteRTEstimator
from sefar_serve.pose.models import DETECTOR, LANDMARK, default_home

FOUR = Sampling((4,))
SHOULDERS, HIPS = [1, 2], [9, 10]


@pytest.fixture(scope="module")
def estimator() -> LiteRTEstimator:
    try:
        return LiteRTEstimator()
    except PoseSetupError as error:
        pytest.skip(f"no pose models: {error}")


@pytest.fixture(scope="module")
def strokes(shared_data: Path) -> list[Path]:
    """Some tennis clips of several venues."""
    folder = shared_data / "real" / "tennis"
    return [folder / name for name in ("b_slice/b_slice1.mp4", "f_volley/f_volley12.mp4", "smash/smash20.mp4")]


def torso(joints: np.ndarray) -> np.ndarray:
    """Length from hips to shoulders."""
    return np.linalg.norm(joints[..., SHOULDERS, :].mean(axis=-2) - joints[..., HIPS, :].mean(axis=-2), axis=-1)


def test_the_models_and_their_licence_are_in_the_cache(estimator: LiteRTEstimator) -> None:
    names = {path.name for path in default_home().iterdir()}
    assert {DETECTOR.name, LANDMARK.name} <= names


@pytest.mark.shared_data
def test_players_have_bodies(estimator: LiteRTEstimator, strokes: list[Path]) -> None:
    for stroke in strokes:
        found = load_poses(stroke, estimator)
        poses = found.poses
        assert poses.detected.mean() > 0.9, stroke
        assert np.abs(poses.joints[:, :, HIPS, :3].mean(axis=2)).max() < 1e-5
        assert ((torso(poses.joints[..., :3]) > 0.3) & (torso(poses.joints[..., :3]) < 0.75)).all(), stroke
        middle = poses.image[..., HIPS, :].mean(axis=2)
        assert (middle > 0).all()
        assert (middle < (found.width, found.height)).all()
        # Most of the time a player stands with the head above the hips, and those above the ankles.
        heights = np.median(poses.image[:, 0, :, 1], axis=0)
        assert heights[JOINTS.index("nose")] < heights[HIPS].mean() < heights[-2:].mean(), stroke


@pytest.mark.shared_data
def test_threads_give_what_one_thread_gives(estimator: LiteRTEstimator, strokes: list[Path]) -> None:
    alone = [load_poses(stroke, estimator, FOUR).poses.joints for stroke in strokes]
    together: dict[int, np.ndarray] = {}

    def work(number: int) -> None:
        together[number] = load_poses(strokes[number], estimator, FOUR).poses.joints

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(strokes))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, joints in enumerate(alone):
        assert np.array_equal(together[number], joints)


@pytest.mark.shared_data
@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_turned_pictures_have_the_same_joints(estimator: LiteRTEstimator, strokes: list[Path], quarters: int) -> None:
    with Video(strokes[0]) as video:
        frames = video.read(range(5, 60, 12))
    [upright] = Tracker(frames.pixels, frames.times, estimator).follow(1)
    turned_frames = np.ascontiguousarray(np.rot90(frames.pixels, quarters, axes=(1, 2)))
    [turned] = Tracker(turned_frames, frames.times, estimator).follow(1)
    assert upright.keys() == turned.keys() == set(range(5))
    # np.rot90 turns against the clock, and y points down.
    cos, sin = np.cos(quarters * np.pi / 2), -np.sin(quarters * np.pi / 2)
    back = np.array([[cos, -sin], [sin, cos]])
    apart = []
    for frame, found in upright.items():
        again = turned[frame].world.copy()
        again[:, :2] = again[:, :2] @ back
        apart.append(np.linalg.norm(again - found.world, axis=1) / torso(found.world))
    # The median: an arm that the body hides is guessed anew.
    assert np.median(apart) < 0.1


def test_nobody_in_the_dark_or_on_plain_grey(estimator: LiteRTEstimator) -> None:
    for level in (0, 20, 128, 255):
        found = load_poses(encode_grey_clip([level] * 16, size=256), estimator, FOUR)
        dark = "; 4 of 4 frames are dark" if level < 40 else ""
        assert found.warnings == (f"no person found{dark}",), level


@pytest.mark.shared_data
def test_two_persons_are_two(estimator: LiteRTEstimator, strokes: list[Path]) -> None:
    """Two clips side by side."""
    pictures = []
    for stroke in strokes[:2]:
        with Video(stroke) as video:
            frames = video.read(range(5, 60, 12), 256, square=256)
            pictures.append(frames.pixels)
    beside = np.concatenate(pictures, axis=2)
    tracks = Tracker(beside, frames.times, estimator).follow(2)
    sides = [{found.image[:, 0].mean() > 256 for found in track.values()} for track in tracks]
    assert [len(track) for track in tracks] == [5, 5]
    assert sorted(map(sorted, sides)) == [[False], [True]]


@pytest.mark.shared_data
def test_the_command_draws_a_sheet(estimator: LiteRTEstimator, strokes: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "new" / "sheet.png"
    done = CliRunner().invoke(app, ["pose", "show", str(strokes[0]), "--out", str(out), "--frames", "4"])
    assert done.exit_code == 0, done.output
    with Image.open(out) as sheet:
        assert sheet.width > 1600
    assert [path.name for path in out.parent.iterdir()] == ["sheet.png"]


@pytest.mark.shared_data
def test_decode_processes_find_the_same_joints_within_their_memory(
    estimator: LiteRTEstimator, strokes: list[Path]
) -> None:
    meta = BOTH.model_copy(update={"estimator": estimator.name, "estimator_sha256": estimator.sha256})

    async def decoded(pool: DecoderPool, stroke: Path) -> ModelClip:
        async with pool.decoded(ClipRef("it", str(stroke))) as clip:
            return replace(clip, inputs={name: values.copy() for name, values in clip.inputs.items()})

    with DecoderPool(meta, workers=1, slots=1, memory=1024**3) as pool:  # a quarter of what is allowed
        there = [asyncio.run(decoded(pool, stroke)) for stroke in strokes]
    for clip, stroke in zip(there, strokes, strict=True):
        here = load_inputs(stroke, meta, Estimators(lambda: estimator))
        for name, values in here.inputs.items():
            np.testing.assert_array_equal(clip.inputs[name], values)


@pytest.mark.shared_data
def test_the_command_line_gives_the_joints(estimator: LiteRTEstimator, strokes: list[Path], tmp_path: Path) -> None:
    meta = POSE.model_copy(update={"estimator": estimator.name, "estimator_sha256": estimator.sha256})
    model = write_tiny_model(tmp_path / "model.onnx", meta)
    asked = ["--model", str(model), "--anonymous"]
    sheet = tmp_path / "sheet.png"
    done = CliRunner().invoke(app, ["classify", str(strokes[0]), *asked, "--json", "--poses", "--sheet", str(sheet)])
    assert done.exit_code == 0, done.output
    pose = json.loads(done.stdout)["clip"]["pose"]
    expected = load_inputs(strokes[0], meta, Estimators(lambda: estimator)).poses
    assert pose["found"] == expected.detected.mean(axis=0).tolist()
    np.testing.assert_array_equal(np.float32(pose["joints"]), expected.joints)
    with Image.open(sheet) as drawn:
        assert len(drawn.convert("RGB").getcolors(2**16)) < 2**12  # no photograph
    features = tmp_path / "features"
    done = CliRunner().invoke(
        app, ["extract", str(strokes[0]), "--out", str(features), *asked, "--poses", "--workers", "1"]
    )
    assert done.exit_code == 0, done.output
    [joints] = open_features(features).poses()
    np.testing.assert_array_equal(joints[0], expected.joints)
