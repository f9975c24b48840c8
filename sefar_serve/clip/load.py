"""From a video to what the model takes: one clip, or one per sliding window."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sefar_serve.clip.container import ClipLimits, VideoSource
from sefar_serve.clip.errors import ClipLimitError, ClipSpanError
from sefar_serve.clip.sampling import Sampling, sample_indices
from sefar_serve.clip.video import Frames, Video

_TICK = 1e-6
"""Seconds; times closer than this are the same."""


@dataclass(frozen=True)
class Clip:
    """A clip ready for the model, and where it came from.

    Attributes:
        frames: uint8 (F, size, size, 3) RGB in element order.
        indices: int64 (F,), number in the video of each.
        times: float64 (F,), seconds after the video's first frame.
        frame_count: frames in the part of the video that they were chosen from.
        duration: seconds of the whole video.
        width: upright display width of the video in square pixels.
        height: upright display height.
        stream_index: number of the stream in its container.
        corrupt: numbers of those frames that the decoder flagged as damaged.
        warnings: what else is to say.
    """

    frames: NDArray[np.uint8]
    indices: NDArray[np.int64]
    times: NDArray[np.float64]
    frame_count: int
    duration: float
    width: int
    height: int
    stream_index: int
    corrupt: tuple[int, ...] = ()
    warnings: tuple[str, ...] = ()


def load_clip(
    source: VideoSource,
    sampling: Sampling,
    *,
    resize: int,
    size: int,
    start: float | None = None,
    end: float | None = None,
    rng: np.random.Generator | None = None,
    name: str | None = None,
    limits: ClipLimits | None = None,
    threads: int = 1,
) -> Clip:
    """Load one clip.

    Args:
        source: path, bytes or file object.
        sampling: the model's temporal elements.
        resize: short side in pixels that frames are scaled to.
        size: side of the central square that is cut out.
        start: seconds; None for the beginning.
        end: seconds; None for the end.
        rng: randomness of the sampling in training; None for inference.
        name: for messages.
        limits: on the video.
        threads: decoder threads.

    Raises:
        ClipError: the video or the part of it cannot be shown.
        OSError: the path cannot be read.
    """
    with Video(source, name=name, limits=limits, threads=threads) as video:
        first, past = span_indices(video, start, end)
        [clip] = _clips(video, [(first, past)], sampling, resize, size, rng)
        return clip


def load_windows(
    source: VideoSource,
    sampling: Sampling,
    *,
    resize: int,
    size: int,
    window: float,
    stride: float,
    start: float | None = None,
    end: float | None = None,
    max_windows: int = 256,
    name: str | None = None,
    limits: ClipLimits | None = None,
    threads: int = 1,
) -> tuple[list[tuple[float, float]], list[Clip]]:
    """Load sliding windows over a video, which is opened and decoded once for all of them.

    Args:
        source: path, bytes or file object.
        sampling: the model's temporal elements.
        resize: short side in pixels that frames are scaled to.
        size: side of the central square that is cut out.
        window: seconds of each window.
        stride: seconds between the starts of windows.
        start: seconds; None for the beginning.
        end: seconds; None for the end.
        max_windows: most windows.
        name: for messages.
        limits: on the video.
        threads: decoder threads.

    Returns:
        Start and end of each window in seconds, the last one ending with the span, and their clips. A span
        shorter than the window is one window.

    Raises:
        ClipLimitError: there would be too many windows.
        ClipError: the video or the part of it cannot be shown.
        ValueError: window or stride is not positive.
        OSError: the path cannot be read.
    """
    if window <= 0 or stride <= 0:
        raise ValueError(f"window {window} and stride {stride} must be positive numbers of seconds")
    with Video(source, name=name, limits=limits, threads=threads) as video:
        span_indices(video, start, end)  # refuses what is not a part of the video
        begin, stop = start or 0.0, min(end if end is not None else video.duration, video.duration)
        times = _windows(video.name, begin, stop, window, stride, max_windows)
        spans = [span_indices(video, low, high) for low, high in times]
        return times, _clips(video, spans, sampling, resize, size, None)


def span_indices(video: Video, start: float | None, end: float | None) -> tuple[int, int]:
    """First and past-last frame shown in [start, end) seconds, at least one; past the video's end is its end.

    Raises:
        ClipSpanError: negative, reversed, or outside the video.
    """
    low, high = start if start is not None else 0.0, end if end is not None else float("inf")
    if not low >= 0 or not high > low:
        raise ClipSpanError(f"{video.name}: start {low:g} s and end {high:g} s are not a part of a video")
    if low >= video.duration:
        raise ClipSpanError(f"{video.name}: start {low:g} s is not inside the video, which has {video.duration:.3f} s")
    first = int(np.searchsorted(video.times, low - _TICK))
    past = int(np.searchsorted(video.times, high - _TICK))
    first = min(first, video.frame_count - 1)
    return first, max(past, first + 1)


def _windows(
    name: str, begin: float, stop: float, window: float, stride: float, max_windows: int
) -> list[tuple[float, float]]:
    if window >= stop - begin - _TICK:
        return [(begin, stop)]
    full = int(np.ceil((stop - begin - window - _TICK) / stride))
    if full + 1 > max_windows:
        fitting = (stop - begin - window) / max(max_windows - 1, 1)
        raise ClipLimitError(
            f"{name}: {full + 1} windows of {window:g} s every {stride:g} s are more than the allowed {max_windows}; "
            f"a stride of {np.ceil(100 * fitting) / 100:g} s would fit"
        )
    starts = [begin + i * stride for i in range(full)] + [stop - window]
    return [(low, low + window) for low in starts]


def _clips(
    video: Video,
    spans: list[tuple[int, int]],
    sampling: Sampling,
    resize: int,
    size: int,
    rng: np.random.Generator | None,
) -> list[Clip]:
    wanted = [first + sample_indices(past - first, sampling, rng) for first, past in spans]
    segments = [
        _segment(index, span, sampling.frames) for span, one in zip(spans, wanted, strict=True) for index in one
    ]
    # A frame wanted by several windows is decoded once.
    every, where = np.unique(np.concatenate(wanted), return_inverse=True)
    allowed = dict(zip(np.concatenate(wanted).tolist(), segments, strict=True))
    read = video.read(every, resize, square=size, instead=[allowed[int(n)] for n in every])
    clips = []
    for number, (first, past) in enumerate(spans):
        rows = where[number * sampling.frames : (number + 1) * sampling.frames]
        clips.append(_clip(video, read, rows, past - first))
    return clips


def _segment(index: int, span: tuple[int, int], count: int) -> tuple[int, int]:
    """The one of `count` equal segments of the span that holds a frame: where a stand-in may come from."""
    first, past = span
    length = past - first
    segment = min((int(index) - first) * count // length, count - 1)
    low = first + segment * length // count
    return min(low, int(index)), max(first + (segment + 1) * length // count, int(index) + 1)


def _clip(video: Video, read: Frames, rows: NDArray[np.int64], frame_count: int) -> Clip:
    indices = read.indices[rows]
    return Clip(
        frames=read.pixels[rows],
        indices=indices,
        times=read.times[rows],
        frame_count=frame_count,
        duration=video.duration,
        width=video.width,
        height=video.height,
        stream_index=video.stream_index,
        corrupt=tuple(number for number in read.corrupt if number in indices),
        warnings=video.warnings + read.warnings,
    )
