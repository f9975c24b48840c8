"""From a video to the input of a model: one clip, or the clips of sliding windows over a long video."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sefar_serve.clip.errors import ClipLimitError, ClipSpanError
from sefar_serve.clip.limits import ClipLimits
from sefar_serve.clip.sampled import Sampled
from sefar_serve.clip.source import VideoSource
from sefar_serve.clip.video import Video
from sefar_serve.sampling import Sampling, sample_indices

SLACK = 1e-6
"""Tolerance in seconds when a frame's time is compared with a bound."""


@dataclass(frozen=True, kw_only=True)
class Clip(Sampled):
    """The pixels of a sampled clip, and where its frames came from.

    Attributes:
        frames: uint8 (F,size,size,3), RGB, in element order: [fine_1 | … | fine_M | context].
    """

    frames: NDArray[np.uint8]


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
    limits: ClipLimits = ClipLimits(),  # noqa: B008  (frozen)
    threads: int = 1,
) -> Clip:
    """Decode the F frames that a model takes (paper, section 3.1).

    If a sampled frame does not decode, the nearest one that does in the same segment (of F equal ones)
    replaces it, with a warning.

    Args:
        source: path, bytes or binary file object.
        sampling: the temporal elements.
        resize: frames are scaled so that their short side has this many pixels.
        size: side in pixels of the central square cut from them, at most `resize`.
        start: where the clip begins, in seconds since the first frame; None for the first frame.
        end: where the clip ends, in seconds since the first frame; None for the end of the video.
        rng: random generator for training; None samples the same frames every time.
        name: name of the source in messages.
        limits: limits on the video.
        threads: threads of the decoder; 0 lets FFmpeg choose.

    Raises:
        FileNotFoundError: if the path does not exist.
        ClipError: a subclass of it, if the video or the span cannot be used.
    """
    with Video(source, name=name, limits=limits, threads=threads) as video:
        span = span_indices(video, start, end)
        indices = span[0] + sample_indices(span[1] - span[0], sampling, rng)
        return read_clips(video, [span], [indices], resize=resize, size=size)[0]


def load_windows(
    source: VideoSource,
    sampling: Sampling,
    *,
    resize: int,
    size: int,
    window: float,
    stride: float,
    max_windows: int,
    start: float | None = None,
    end: float | None = None,
    rng: np.random.Generator | None = None,
    name: str | None = None,
    limits: ClipLimits = ClipLimits(),  # noqa: B008  (frozen)
    threads: int = 1,
) -> tuple[list[tuple[float, float]], list[Clip]]:
    """Decode the clips of sliding windows over a video, which is opened once; no frame is decoded twice.

    Args:
        source: path, bytes or binary file object.
        sampling: the temporal elements, taken from each window.
        resize: see `load_clip`.
        size: see `load_clip`.
        window: length of each window in seconds.
        stride: seconds from the start of a window to the start of the next.
        max_windows: maximum number of windows.
        start: where the first window begins, in seconds since the first frame; None for the first frame.
        end: where the last window ends, in seconds since the first frame; None for the end of the video.
        rng: see `load_clip`.
        name: name of the source in messages.
        limits: limits on the video.
        threads: threads of the decoder; 0 lets FFmpeg choose.

    Returns:
        The windows' (start, end) in seconds, and their clips. The last window is moved back so that it
        ends with the video; a video shorter than one window gives one window.

    Raises:
        FileNotFoundError: if the path does not exist.
        ClipError: a subclass of it; `ClipLimitError` for too many windows suggests a stride that fits.
    """
    with Video(source, name=name, limits=limits, threads=threads) as video:
        times = window_times(video, window, stride, max_windows, start, end)
        spans = [span_indices(video, *bounds) for bounds in times]
        chosen = [a + sample_indices(b - a, sampling, rng) for a, b in spans]
        return times, read_clips(video, spans, chosen, resize=resize, size=size)


def read_clips(
    video: Video, spans: Sequence[tuple[int, int]], chosen: Sequence[NDArray[np.int64]], *, resize: int, size: int
) -> list[Clip]:
    """Read the clips of spans of an open video; no frame is decoded twice.

    Args:
        video: an open video.
        spans: (first, past) of each.
        chosen: for each, int64 (F,), the frames of its clip.
        resize: see `load_clip`.
        size: see `load_clip`.

    Raises:
        ClipError: a subclass of it, if frames do not decode or are too large.
    """
    within = [segments_of(indices, span, len(indices)) for indices, span in zip(chosen, spans, strict=True)]
    frames = video.read(np.concatenate(chosen), resize, square=size, within=np.concatenate(within))
    ends = np.cumsum([len(indices) for indices in chosen]).tolist()
    parts = [slice(end - len(indices), end) for end, indices in zip(ends, chosen, strict=True)]
    return [
        Clip.of(video, frames, span, part, frames=frames.pixels[part]) for span, part in zip(spans, parts, strict=True)
    ]


def span_indices(video: Video, start: float | None, end: float | None) -> tuple[int, int]:
    """The frames presented in [start, end) seconds.

    Args:
        video: an open video.
        start: seconds since its first frame; None means 0.
        end: seconds since its first frame; None, or a time past the end, means the end.

    Returns:
        (first, past), at least one frame: if none begins inside the span, the one on screen.

    Raises:
        ClipSpanError: if the span is negative, empty, not finite, or begins after the video's end.
    """
    low = start if start is not None else 0.0
    high = end if end is not None else video.duration
    if not (math.isfinite(low) and math.isfinite(high)) or low < 0 or (end is not None and high <= low):
        raise ClipSpanError(f"span [{low}, {high}) s of {video.name} is invalid; give 0 <= start < end, in seconds")
    if low >= video.duration:
        raise ClipSpanError(
            f"span begins at {low} s, but {video.name} lasts {video.duration:.3f} s; choose an earlier start"
        )
    first = int(np.searchsorted(video.times, low - SLACK, side="left"))
    past = int(np.searchsorted(video.times, high - SLACK, side="left")) if end is not None else video.frame_count
    if past <= first:
        first = int(np.searchsorted(video.times, low, side="right")) - 1
        past = first + 1
    return first, past


def window_times(
    video: Video, window: float, stride: float, max_windows: int, start: float | None, end: float | None
) -> list[tuple[float, float]]:
    """The bounds of sliding windows over a video, in seconds; see `load_windows`.

    Raises:
        ClipSpanError: if the span, the window or the stride is invalid.
        ClipLimitError: if there are more than `max_windows`; suggests a stride that fits.
    """
    span_indices(video, start, end)  # checks the span before it is split into windows
    low = start if start is not None else 0.0
    high = min(end, video.duration) if end is not None else video.duration
    if not (math.isfinite(window) and math.isfinite(stride)) or window <= 0 or stride <= 0:
        raise ClipSpanError(f"window {window} s and stride {stride} s must both be positive")
    room = high - low - window
    if room <= SLACK:
        return [(low, high)]
    steps = room / stride
    if steps > max_windows:  # before counting them one by one
        count = math.inf
    else:
        starts = [low + i * stride for i in range(math.floor(steps + SLACK) + 1)]
        bounds = [(s, min(s + window, high)) for s in starts]
        if high - bounds[-1][1] > SLACK:
            bounds.append((high - window, high))
        count = len(bounds)
    if count > max_windows:
        fitting = math.ceil(1000 * room / max(max_windows - 1, 1)) / 1000
        fix = f"use a stride of {fitting} s or more" if max_windows > 1 else "use a longer window"
        raise ClipLimitError(
            f"{video.name}: windows of {window} s every {stride} s over {high - low:.3f} s exceed the limit of "
            f"{max_windows} windows; {fix}"
        )
    return bounds


def segments_of(indices: NDArray[np.int64], span: tuple[int, int], count: int) -> NDArray[np.int64]:
    """For each frame, the segment from which another may replace it if it does not decode.

    Args:
        indices: int64 (N,), frame numbers in the span.
        span: its frames (first, past).
        count: number of equal segments that the span is cut into.

    Returns:
        (first, past) of each frame's segment, int64 (N,2).
    """
    first, past = span
    length = past - first
    segment = (indices - first) * count // length
    low = -(-segment * length // count)
    high = -(-(segment + 1) * length // count)
    return first + np.stack([low, high], axis=1)
