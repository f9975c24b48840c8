"""Clips as models take them: sampled, scaled, cut square; spans of time and sliding windows."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import pytest
from numbered_clips import encode, numbers_of

from sefar_serve.clip import (
    ClipLimitError,
    ClipSpanError,
    Sampling,
    Video,
    central_square,
    load_clip,
    load_windows,
    sample_indices,
    span_indices,
)
from sefar_serve.clip.decoder import Decoder

SAMPLING = Sampling()


@pytest.fixture(scope="module")
def clip() -> bytes:
    """80 frames, 25 per second: 3.2 s. Square, so that the central square shows the whole number."""
    return encode(80, width=96, height=96, options={"g": "12", "bf": "2"})


def test_a_clip_is_the_sampled_frames_in_element_order(clip: bytes) -> None:
    loaded = load_clip(clip, SAMPLING, resize=72, size=60)
    assert loaded.frames.shape == (8, 60, 60, 3)
    assert loaded.frames.dtype == np.uint8
    assert loaded.indices.tolist() == [35, 75, 15, 55, 5, 25, 45, 65]
    assert loaded.times == pytest.approx(loaded.indices / 25)
    assert (loaded.frame_count, loaded.duration, loaded.width, loaded.height) == (80, 3.2, 96, 96)
    assert (loaded.stream_index, loaded.corrupt, loaded.warnings) == (0, (), ())
    with Video(clip) as video:
        assert (loaded.frames == central_square(video.read(loaded.indices, 72).pixels, 60)).all()
    assert numbers_of(load_clip(clip, SAMPLING, resize=96, size=96).frames) == loaded.indices.tolist()


def test_training_samples_with_its_random_generator(clip: bytes) -> None:
    drawn = load_clip(clip, SAMPLING, resize=96, size=96, rng=np.random.default_rng(5))
    assert drawn.indices.tolist() == sample_indices(80, SAMPLING, np.random.default_rng(5)).tolist()
    assert numbers_of(drawn.frames) == drawn.indices.tolist()


@pytest.mark.parametrize("count", [1, 3])
def test_a_clip_of_fewer_frames_than_f_repeats_them(count: int) -> None:
    loaded = load_clip(encode(count, width=96, height=96), SAMPLING, resize=96, size=96)
    assert loaded.frame_count == count
    assert set(numbers_of(loaded.frames)) == set(range(count))


def test_a_span_is_sampled_as_a_clip_of_its_own(clip: bytes) -> None:
    loaded = load_clip(clip, SAMPLING, resize=96, size=96, start=0.8, end=1.6)
    assert loaded.frame_count == 20
    assert loaded.indices.tolist() == (20 + sample_indices(20, SAMPLING)).tolist()
    assert numbers_of(loaded.frames) == loaded.indices.tolist()
    assert loaded.times == pytest.approx(loaded.indices / 25)
    assert loaded.duration == 3.2


@pytest.mark.parametrize(
    ("start", "end", "frames"),
    [
        (None, None, (0, 80)),
        (0.0, 3.2, (0, 80)),
        (0.2, 0.4, (5, 10)),
        (0.19, 0.41, (5, 11)),
        (3.16, None, (79, 80)),
        (None, 0.04, (0, 1)),
        (1.0, 99.0, (25, 80)),
        (0.21, 0.22, (5, 6)),  # no frame begins in it: the one on screen
        (3.17, 3.19, (79, 80)),
    ],
)
def test_span_indices(clip: bytes, start: float | None, end: float | None, frames: tuple[int, int]) -> None:
    with Video(clip) as video:
        assert span_indices(video, start, end) == frames


@pytest.mark.parametrize(
    ("start", "end"),
    [(-0.1, None), (1.0, 1.0), (2.0, 1.0), (3.2, None), (9.0, 10.0), (float("nan"), None), (0.0, float("inf"))],
)
def test_invalid_spans_are_refused(clip: bytes, start: float, end: float | None) -> None:
    with pytest.raises(ClipSpanError, match="dive"):
        load_clip(clip, SAMPLING, resize=96, size=96, start=start, end=end, name="dive")


def test_windows_cover_the_video_and_its_tail(clip: bytes) -> None:
    times, clips = load_windows(clip, SAMPLING, resize=96, size=96, window=1.0, stride=0.5, max_windows=10)
    assert times == [pytest.approx(w) for w in [(0, 1), (0.5, 1.5), (1, 2), (1.5, 2.5), (2, 3), (2.2, 3.2)]]
    for (start, end), window in zip(times, clips, strict=True):
        alone = load_clip(clip, SAMPLING, resize=96, size=96, start=start, end=end)
        assert (window.frames == alone.frames).all()
        assert window.indices.tolist() == alone.indices.tolist()
        assert window.times.tolist() == alone.times.tolist()
        assert window.frame_count == alone.frame_count
        assert numbers_of(window.frames) == window.indices.tolist()


def test_windows_decode_each_frame_once(clip: bytes) -> None:
    decoded = []
    exact = Decoder.exact

    def counting(self: Decoder, numbers: set[int]) -> object:
        decoded.append(sorted(numbers))
        return exact(self, numbers)

    with patch.object(Decoder, "exact", counting):
        _, clips = load_windows(clip, SAMPLING, resize=96, size=96, window=1.0, stride=0.1, max_windows=30)
    assert decoded == [sorted({int(i) for window in clips for i in window.indices})]


def test_windows_that_fit_exactly(clip: bytes) -> None:
    times, _ = load_windows(clip, SAMPLING, resize=96, size=96, window=0.8, stride=0.8, max_windows=4)
    assert times == [pytest.approx(w) for w in [(0, 0.8), (0.8, 1.6), (1.6, 2.4), (2.4, 3.2)]]


def test_a_video_shorter_than_the_window_gives_one(clip: bytes) -> None:
    times, clips = load_windows(clip, SAMPLING, resize=96, size=96, window=5, stride=1, max_windows=1)
    assert times == [(0.0, 3.2)]
    assert (clips[0].frames == load_clip(clip, SAMPLING, resize=96, size=96).frames).all()


def test_windows_within_a_span(clip: bytes) -> None:
    times, _ = load_windows(
        clip, SAMPLING, resize=96, size=96, window=0.4, stride=0.4, max_windows=9, start=1.0, end=2.0
    )
    assert times == [pytest.approx(w) for w in [(1.0, 1.4), (1.4, 1.8), (1.6, 2.0)]]


@pytest.mark.parametrize(("window", "stride", "most"), [(1.0, 0.1, 5), (0.1, 1e-9, 1000), (0.2, 0.2, 2)])
def test_error_for_too_many_windows_suggests_a_stride(clip: bytes, window: float, stride: float, most: int) -> None:
    def load(stride: float) -> int:
        return len(load_windows(clip, SAMPLING, resize=96, size=96, window=window, stride=stride, max_windows=most)[0])

    with pytest.raises(ClipLimitError, match=rf"exceed the limit of {most} windows; use a stride of ") as raised:
        load(stride)
    fitting = float(str(raised.value).split("a stride of ")[1].split(" s")[0])
    assert most / 2 < load(fitting) <= most


def test_only_one_window_allowed(clip: bytes) -> None:
    with pytest.raises(ClipLimitError, match="use a longer window"):
        load_windows(clip, SAMPLING, resize=96, size=96, window=1.0, stride=1.0, max_windows=1)


@pytest.mark.parametrize(("window", "stride"), [(0, 1), (1, 0), (-1, 1), (1, float("nan")), (float("inf"), 1)])
def test_invalid_windows_are_refused(clip: bytes, window: float, stride: float) -> None:
    with pytest.raises(ClipSpanError, match="must both be positive"):
        load_windows(clip, SAMPLING, resize=96, size=96, window=window, stride=stride, max_windows=9)
