from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from small_videos import encode

from sefar_serve.clip import ClipError, load_clip
from sefar_serve.lists import ListEntry
from sefar_serve.sampling import Sampling
from sefar_training.data import BrokenClipsError, EvaluationClips, FrameStore, TrainingClips, WeakView

SAMPLING = Sampling((2, 2, 4))
VIEW = WeakView(size=32, scale=(32, 40), flip=0.5)


@pytest.fixture
def entries(tmp_path: Path) -> list[ListEntry]:
    return [ListEntry(f"{i}.mp4", encode(tmp_path / f"{i}.mp4", brightness=20 * i), i) for i in range(3)]


def clips(entries: list[ListEntry], *, cache_gb: float = 0.0, max_broken: int = 0, **options) -> TrainingClips:
    return TrainingClips(FrameStore(entries, 40, cache_gb, max_broken), SAMPLING, VIEW, seed=0, **options)


def test_sample_is_what_the_model_takes(entries) -> None:
    sample = clips(entries)[0, 2]
    assert sample["inputs"].shape == (8, 32, 32, 3)
    assert str(sample["inputs"].dtype) == "torch.uint8"
    assert (sample["label"], sample["index"]) == (2, 2)
    # Time runs forward inside every element.
    brightness = sample["inputs"].float().mean(dim=(1, 2, 3))
    for element in ([0, 1], [2, 3], [4, 5, 6, 7]):
        assert (brightness[element].diff() > 0).all()


def test_same_key_same_sample_with_and_without_cache(entries) -> None:
    fresh, cached = clips(entries), clips(entries, cache_gb=1)
    cached.store.fill(progress=False)
    for key in [(0, 0), (0, 1), (5, 1)]:
        assert (fresh[key]["inputs"] == cached[key]["inputs"]).all()
        assert (cached[key]["inputs"] == cached[key]["inputs"]).all()


def test_epochs_clips_and_seeds_draw_differently(entries) -> None:
    data = clips(entries)
    other = TrainingClips(data.store, SAMPLING, VIEW, seed=1)
    first = data[0, 0]["inputs"]
    assert not (first == data[1, 0]["inputs"]).all()
    assert not (first == other[0, 0]["inputs"]).all()


def test_cache_stops_at_its_limit(entries, caplog: pytest.LogCaptureFixture) -> None:
    one = 24 * 40 * 53 * 3 / 1e9
    data = clips(entries, cache_gb=1.5 * one)
    with caplog.at_level(logging.INFO):
        data.store.fill(progress=False)
    assert "full after 1 of 3 clips" in caplog.text
    assert [data[0, i]["index"] for i in range(3)] == [0, 1, 2]
    entries[0].path.unlink()
    assert data[0, 0]["index"] == 0  # kept in memory
    entries[2].path.unlink()
    with pytest.raises(BrokenClipsError, match=r"2\.mp4"):
        data[0, 2]  # not kept, and gone


def test_broken_clips_are_named_and_replaced_up_to_the_limit(entries, caplog: pytest.LogCaptureFixture) -> None:
    entries[1].path.write_text("not a video")
    with caplog.at_level(logging.WARNING):
        sample = clips(entries, max_broken=1)[0, 1]
    assert (sample["index"], sample["label"]) == (2, 2)
    assert "1.mp4" in caplog.text
    with pytest.raises(BrokenClipsError, match=r"1 clip does not decode, data\.max_broken allows 0: 1\.mp4"):
        clips(entries)[0, 1]


def test_all_clips_broken_stops_even_with_a_high_limit(entries) -> None:
    for entry in entries:
        entry.path.write_text("not a video")
    with pytest.raises(BrokenClipsError, match="3 clips do not decode"):
        clips(entries, max_broken=99)[0, 0]


def test_poses_follow_their_frames(entries) -> None:
    poses = {e.name: np.arange(24, dtype=np.float32)[:, None] for e in entries}
    sample = clips(entries, poses=poses)[0, 1]
    brightness = sample["inputs"].float().mean(dim=(1, 2, 3))
    order = sample["pose"][:, 0].argsort()
    assert sample["pose"].shape == (8, 1)
    assert (brightness[order].diff() > 0).all()


def test_evaluation_sees_exactly_what_is_served(entries) -> None:
    served = load_clip(entries[1].path, SAMPLING, resize=40, size=32).frames
    for cache_gb in (0.0, 1.0):
        data = EvaluationClips(entries, SAMPLING, 40, 32, cache_gb)
        for _ in range(2):
            assert (data[1]["inputs"].numpy() == served).all()


def test_evaluation_keeps_no_more_than_its_limit(entries) -> None:
    one = load_clip(entries[0].path, SAMPLING, resize=40, size=32).frames.nbytes
    data = EvaluationClips(entries, SAMPLING, 40, 32, cache_gb=1.5 * one / 1e9)
    first, second = data[0]["inputs"], data[1]["inputs"]
    assert data[0]["inputs"] is first
    assert data[1]["inputs"] is not second


def test_evaluation_skips_no_clip(entries) -> None:
    entries[1].path.write_text("not a video")
    with pytest.raises(ClipError, match=r"1\.mp4"):
        EvaluationClips(entries, SAMPLING, resize=40, size=32)[1]
