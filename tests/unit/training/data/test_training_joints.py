"""Stored joints: estimated once, drawn between the stored frames."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from stick_figures import figure, store

from sefar_serve.lists import ClipKey, ListEntry
from sefar_serve.pose import load_poses
from sefar_serve.pose.fake import FakeEstimator
from sefar_serve.sampling import Sampling, sample_indices
from sefar_training.data import (
    BrokenClipsError,
    EvaluationJoints,
    JointCache,
    JointCacheError,
    JointStore,
    TrainingJoints,
    UnlabelledJoints,
)
from sefar_training.data.clip_signatures import ClipSignatures
from sefar_training.data.joint_cache import STORED
from sefar_training.data.joint_clips import interpolate, positions

SAMPLING = Sampling((2, 2, 4))


def video(path: Path, frames: int = 60) -> Path:
    """A red block, which `FakeEstimator` takes for a person, walks to the right."""
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for i in range(frames):
            picture = np.full((120, 160, 3), 128, np.uint8)
            picture[30:90, 40 + i : 70 + i] = (220, 30, 30)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def entries(folder: Path, count: int) -> list[ListEntry]:
    for number in range(count):
        (folder / f"{number}.mp4").write_text(f"no video, but {number}")
    return [ListEntry(f"{number}.mp4", folder / f"{number}.mp4", number % 2) for number in range(count)]


@pytest.fixture
def cached(tmp_path: Path) -> tuple[list[ListEntry], JointCache]:
    """Four clips with stored joints."""
    listed, cache = entries(tmp_path, 4), JointCache(tmp_path / "joints", FakeEstimator())
    rng = np.random.default_rng(0)
    store(cache, [entry.path for entry in listed], [figure(rng, entry.label) for entry in listed])
    return listed, cache


def test_joints_are_estimated_once(tmp_path: Path) -> None:
    long, short = ClipKey(video(tmp_path / "long.mp4")), ClipKey(video(tmp_path / "short.mp4", frames=10))
    first = FakeEstimator()
    found, errors = JointCache(tmp_path / "joints", first).read([long, short, long], progress=False)
    assert not errors
    expected = load_poses(long.path, FakeEstimator(), STORED).poses.joints
    assert np.array_equal(found[long], expected) and len(expected) == 48
    assert len(found[short]) == 10 and (found[short][..., 3] > 0.9).all()
    again = FakeEstimator()
    cache = JointCache(tmp_path / "joints", again)
    assert np.array_equal(cache.read([long, short], progress=False)[0][long], expected)
    assert again.looks == 0 < first.looks


def test_what_would_change_the_joints_makes_them_new(tmp_path: Path) -> None:
    clip = ClipKey(video(tmp_path / "a.mp4", frames=10))
    estimator = FakeEstimator()
    cache = JointCache(tmp_path / "joints", estimator)
    file = cache.file(clip)
    other = FakeEstimator()
    other.sha256 = "1" * 64
    assert JointCache(tmp_path / "joints", other).file(clip) != file
    assert JointCache(tmp_path / "joints", estimator, persons=2).file(clip) != file
    assert len({cache.file(ClipKey(clip.path, *span)) for span in [(), (0.1,), (None, 0.2), (0.1, 0.2)]}) == 4
    os.utime(clip.path, (1, 1))
    assert cache.file(clip) == file
    video(clip.path, frames=9)
    assert cache.file(clip) != file


def test_a_folder_that_was_copied_keeps_its_joints(tmp_path: Path) -> None:
    root = tmp_path / "clips"
    root.mkdir()
    clip = ClipKey(video(root / "a.mp4", frames=10))
    expected = JointCache(root / ".sefar" / "joints", FakeEstimator()).read([clip], progress=False)[0][clip]
    copied = tmp_path / "elsewhere"
    shutil.copytree(root, copied, copy_function=shutil.copyfile)  # with new times
    (copied / "a.mp4").rename(copied / "b.mp4")
    estimator = FakeEstimator()
    renamed = ClipKey(copied / "b.mp4")
    found, _ = JointCache(copied / ".sefar" / "joints", estimator).read([renamed], progress=False)
    assert np.array_equal(found[renamed], expected) and estimator.looks == 0


def test_a_clip_is_read_again_only_if_its_file_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = tmp_path / "a.mp4"
    clip.write_bytes(b"first")
    signatures = ClipSignatures(tmp_path / "clips.json")
    first = signatures.of_file(clip)
    signatures.save()
    clip.write_bytes(b"other")
    os.utime(clip, (1, 1))
    assert ClipSignatures(tmp_path / "clips.json").of_file(clip) != first
    clip.write_bytes(b"first")
    again = ClipSignatures(tmp_path / "clips.json")
    assert again.of_file(clip) == first
    again.save()
    monkeypatch.setattr("hashlib.file_digest", None)
    assert ClipSignatures(tmp_path / "clips.json").of_file(clip) == first
    (tmp_path / "clips.json").write_text("damaged")
    with pytest.raises(TypeError):
        ClipSignatures(tmp_path / "clips.json").of_file(clip)


def test_damaged_joints_are_estimated_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clip = ClipKey(video(tmp_path / "a.mp4", frames=10))
    cache = JointCache(tmp_path / "joints", FakeEstimator())
    before = cache.read([clip], progress=False)[0][clip]
    cache.file(clip).write_bytes(cache.file(clip).read_bytes()[:100])
    assert np.array_equal(cache.read([clip], progress=False)[0][clip], before)
    assert "is damaged; its clip's joints are estimated again" in caplog.text


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    clip = ClipKey(video(tmp_path / "a.mp4", frames=4))
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(JointCacheError, match=r"file/joints.*; set data\.joints"):
        JointCache(tmp_path / "file" / "joints", FakeEstimator()).read([clip], progress=False)


def test_positions_lie_in_their_segments_and_in_the_middle_at_evaluation() -> None:
    order = sample_indices(8, SAMPLING)
    assert positions(5, SAMPLING) == pytest.approx((order + 0.5) / 8)
    rng = np.random.default_rng(0)
    drawn = np.stack([positions(5, SAMPLING, rng) for _ in range(200)]) * 8
    assert (np.floor(drawn) == order).all()
    assert (drawn.max(axis=0) - drawn.min(axis=0) > 0.9).all()
    first, second = (positions(5, SAMPLING, view=(k, 2)) for k in range(2))
    assert first == pytest.approx((order + 0.25) / 8) and second == pytest.approx((order + 0.75) / 8)
    local = positions(48, Sampling((3, 2), "local"), rng)
    assert np.diff(local[:3] * 48) == pytest.approx([1, 1], abs=1)


def test_sixteen_positions_are_frames_that_serving_takes() -> None:
    frames = np.arange(48, dtype=np.float32)[:, None, None, None]
    middle = interpolate(frames, positions(48, Sampling((16,))))[:, 0, 0, 0]
    stored = sample_indices(1000, STORED)
    assert (stored[middle.astype(int)] == sample_indices(1000, Sampling((16,)))).all()


def test_joints_between_stored_frames_are_interpolated() -> None:
    joints = np.arange(3, dtype=np.float32)[:, None, None, None] * np.ones((1, 1, 15, 4), np.float32)
    found = interpolate(joints, np.array([0.0, 1 / 6, 1 / 3, 0.5, 0.99]))
    assert found.dtype == np.float32
    assert found[:, 0, 0, 0] == pytest.approx([0, 0, 0.5, 1, 2])
    assert (interpolate(joints[:1], np.array([0.1, 0.9])) == 0).all(), "a single stored frame is enough"


def test_samples_depend_only_on_seed_pass_and_number(cached: tuple[list[ListEntry], JointCache]) -> None:
    listed, cache = cached
    kept = JointStore(listed, cache, max_broken=0)
    kept.fill(progress=False)
    one, two = (TrainingJoints(kept, SAMPLING, seed=3)[1, 2] for _ in range(2))
    assert torch.equal(one["inputs"], two["inputs"]) and (one["label"], one["index"]) == (0, 2)
    assert one["inputs"].shape == (8, 1, 15, 4) and one["inputs"].dtype == torch.float32
    assert not torch.equal(one["inputs"], TrainingJoints(kept, SAMPLING, seed=3)[2, 2]["inputs"])
    pair = UnlabelledJoints(kept, SAMPLING, seed=3, cut=0.2)[0, 1]
    assert (pair["clip"], pair["hidden_label"]) == (1, 1)
    assert pair["weak"].shape == pair["strong"].shape and not torch.equal(pair["weak"], pair["strong"])


def test_a_broken_clip_is_named_or_replaced(
    cached: tuple[list[ListEntry], JointCache], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    listed, cache = cached
    listed = [listed[0], *entries(tmp_path / "..", 0), ListEntry("x.mp4", tmp_path / "x.mp4", 0), *listed[1:]]
    (tmp_path / "x.mp4").write_bytes(b"neither")
    with pytest.raises(BrokenClipsError, match=r"1 clip does not decode, data\.max_broken allows 0: x\.mp4"):
        JointStore(listed, cache, max_broken=0).fill(progress=False)
    kept = JointStore(listed, cache, max_broken=1)
    kept.fill(progress=False)
    assert "clip skipped" in caplog.text
    assert TrainingJoints(kept, SAMPLING, seed=0)[0, 1]["index"] == 2


def test_clips_without_persons_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (entry, *_), cache = entries(tmp_path, 1), JointCache(tmp_path / "joints", FakeEstimator())
    store(cache, [entry.path], [np.zeros((5, 1, 15, 4), np.float32)])
    JointStore([entry], cache, max_broken=0).fill(progress=False)
    assert "no person found in 1 of 1 clips: 0.mp4" in caplog.text


def test_evaluation_takes_the_middles_of_all_views(cached: tuple[list[ListEntry], JointCache]) -> None:
    listed, cache = cached
    one = EvaluationJoints(listed, SAMPLING, cache)[3]
    stored = cache.read([listed[3].clip], progress=False)[0][listed[3].clip]
    assert np.array_equal(one["inputs"], interpolate(stored, positions(24, SAMPLING)))
    assert EvaluationJoints(listed, SAMPLING, cache, views=3)[0]["inputs"].shape == (3, 8, 1, 15, 4)
    gone = ListEntry("gone.mp4", Path("gone.mp4"), 0)
    with pytest.raises(FileNotFoundError):
        EvaluationJoints([*listed, gone], SAMPLING, cache)
