"""Broken clips in training: counted over all workers, named, left out, and the same ones however frames are read."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from small_videos import damage, encode
from torch.utils.data import DataLoader

from sefar_serve.clip import Sampling, Video
from sefar_serve.lists import ListEntry
from sefar_training.data import BrokenClipsError, FrameStore, TrainingClips, WeakView

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on a single core

INTERLEAVED = Sampling((2, 2, 4))
LOCAL = Sampling((2, 2, 4), "local")
VIEW = WeakView(size=32, scale=(32, 40), flip=0.5)


def store(paths: list[Path], *, cache_gb: float = 0.0, max_broken: int = 0) -> FrameStore:
    entries = [ListEntry(path.name, path, i) for i, path in enumerate(paths)]
    made = FrameStore(entries, 40, cache_gb, max_broken)
    made.fill(progress=False, threads=2)
    return made


def loader(frames: FrameStore, workers: int, sampling: Sampling = INTERLEAVED) -> DataLoader:
    clips = TrainingClips(frames, sampling, VIEW, seed=0)
    keys = [(epoch, index) for epoch in range(2) for index in range(len(frames.entries))]
    context = "fork" if workers else None
    return DataLoader(clips, batch_size=1, sampler=keys, num_workers=workers, multiprocessing_context=context)


@pytest.fixture
def broken(tmp_path: Path) -> list[Path]:
    """A whole clip between any two broken ones, each broken in a way of its own."""
    made = [encode(tmp_path / f"whole_{i}.mp4", brightness=10 * i) for i in range(7)]
    whole = made[0].read_bytes()
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("not a video " * 40)
    (tmp_path / "truncated.mp4").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "index_lost.mp4").write_bytes(whole[:200])
    (tmp_path / "folder.mp4").mkdir()
    damage(encode(tmp_path / "segment_lost.mp4", 64, step=2, all_keys=True), range(16, 24))
    names = ["empty", "text", "truncated", "index_lost", "folder", "segment_lost", "missing"]
    return [path for pair in zip(made, (tmp_path / f"{name}.mp4" for name in names), strict=True) for path in pair]


@pytest.mark.parametrize("cache_gb", [0, 1])
@pytest.mark.parametrize("workers", [0, 2])
def test_broken_clips_of_every_kind_are_replaced_by_the_next(
    broken: list[Path], caplog: pytest.LogCaptureFixture, workers: int, cache_gb: float
) -> None:
    with caplog.at_level(logging.WARNING):
        frames = store(broken, cache_gb=cache_gb, max_broken=7)
        given = [batch["index"].item() for batch in loader(frames, workers)]
    whole = [i if i % 2 == 0 else (i + 1) % len(broken) for i in range(len(broken))]
    assert given == whole * 2
    if not workers:
        for path in broken[1::2]:
            assert caplog.text.count(path.name) == 1


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_the_limit_holds_over_all_workers_and_its_error_is_readable(broken: list[Path], workers: int) -> None:
    with pytest.raises(BrokenClipsError) as raised:
        for _ in loader(store(broken, max_broken=6), workers):
            pass
    message = str(raised.value)
    assert message.startswith("7 clips do not decode, data.max_broken allows 6: ")
    assert "Traceback" not in message
    for path in broken[1::2]:
        assert path.name in message


def test_the_count_of_broken_clips_outlives_workers(broken: list[Path]) -> None:
    frames = store(broken, max_broken=7)
    for _ in loader(frames, workers=1):
        pass
    frames.entries[0].path.unlink()
    with pytest.raises(BrokenClipsError, match="8 clips do not decode"):
        for _ in loader(frames, workers=1):
            pass


def test_many_broken_clips_are_counted_but_not_all_named(tmp_path: Path) -> None:
    with pytest.raises(BrokenClipsError, match=r"^30 clips do not decode, .*: 0\.mp4, .* and 10 more; last error: "):
        list(loader(store([tmp_path / f"{i}.mp4" for i in range(30)], max_broken=99), 0))


@pytest.mark.parametrize("sampling", [INTERLEAVED, LOCAL], ids=["interleaved", "local"])
def test_samples_of_damaged_clips_do_not_depend_on_workers_or_cache(broken: list[Path], sampling: Sampling) -> None:
    folder = broken[0].parent
    rng = np.random.default_rng(0)
    for number in range(12):
        path = encode(folder / f"flipped_{number}.mp4", 32, number, step=5, all_keys=number % 2 == 0)
        data = bytearray(path.read_bytes())
        for at in rng.integers(1500, len(data), 3):
            data[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(data)
        broken.append(path)
    runs = []
    for workers, cache_gb in [(0, 0), (2, 0), (0, 1), (2, 1), (0, 0.0003)]:
        frames = store(broken, cache_gb=cache_gb, max_broken=20)
        runs.append([(b["index"].item(), b["inputs"]) for b in loader(frames, workers, sampling)])
    for run in runs[1:]:
        for (index, frames), (first_index, first_frames) in zip(run, runs[0], strict=True):
            assert index == first_index
            assert torch.equal(frames, first_frames)


@pytest.mark.parametrize("cache_gb", [0, 1])
def test_one_undecodable_frame_does_not_discard_the_clip(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, cache_gb: float
) -> None:
    # Segments of two frames: whenever frame 5 is drawn, frame 4 has to stand in.
    clip = damage(encode(tmp_path / "scratched.mp4", 16, 20, step=10, all_keys=True), {5})
    with caplog.at_level(logging.WARNING):
        frames = store([clip], cache_gb=cache_gb)
        drawn = [frames.sample(0, INTERLEAVED, np.random.default_rng(seed)) for seed in range(20)]
    assert {int(number) for _, numbers, _ in drawn for number in numbers} == set(range(16)) - {5}
    for _, numbers, pixels in drawn:
        assert np.abs(pixels[:, :, -8:].mean(axis=(1, 2, 3)) - (20 + 10 * numbers)).max() < 4
    assert caplog.text.count("scratched.mp4 (1 such clips so far)") == 1


def test_only_the_frames_needed_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    read = Video.read

    def count(self: Video, indices, *arguments, **options):
        asked.append(len(indices))
        return read(self, indices, *arguments, **options)

    monkeypatch.setattr(Video, "read", count)
    frames = store([encode(tmp_path / "long.mp4", 300, step=0)])
    frames.sample(0, INTERLEAVED, np.random.default_rng(0))
    assert asked == [8]
