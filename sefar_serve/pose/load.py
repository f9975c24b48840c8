"""From a video to poses: decode, sample, find the persons, follow them."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sefar_serve.clip.limits import ClipLimits
from sefar_serve.clip.load import segments_of, span_indices
from sefar_serve.clip.sampled import Sampled
from sefar_serve.clip.source import VideoSource
from sefar_serve.clip.video import Frames, Shape, Video
from sefar_serve.pose.estimator import Estimator
from sefar_serve.pose.poses import Poses, make_poses
from sefar_serve.pose.tracker import Tracker
from sefar_serve.sampling import Sampling, sample_indices

SIXTEEN = Sampling((16,))
"""One frame at the centre of each of 16 equal segments."""

SHORT_SIDE = 720
"""Larger pictures are scaled down to this before persons are searched: 256 pixels of one are all that a model sees."""

MAX_PERSONS = 2

DARK = 40
"""A frame is dark if 95 % of its pixels are darker than this, of 255."""


@dataclass(frozen=True, kw_only=True)
class PoseClip(Sampled):
    """The poses of a sampled clip, and where its frames came from; the counterpart of `sefar_serve.clip.Clip`.

    Attributes:
        poses: of the F frames, in element order. Their warnings are also among those of the clip.
        pose_seconds: time spent on finding persons and joints, without decoding.
    """

    poses: Poses
    pose_seconds: float


def load_poses(
    source: VideoSource,
    estimator: Estimator,
    sampling: Sampling = SIXTEEN,
    *,
    persons: int = 1,
    start: float | None = None,
    end: float | None = None,
    rng: np.random.Generator | None = None,
    name: str | None = None,
    limits: ClipLimits = ClipLimits(),  # noqa: B008  (frozen)
    threads: int = 1,
) -> PoseClip:
    """Find the joints of the persons in a clip.

    Args:
        source: path, bytes or binary file object.
        estimator: finds persons and joints.
        sampling: the temporal elements; 16 frames at segment centres by default.
        persons: how many to follow, 1 or 2.
        start: seconds since the first frame where the clip begins; None: at the first frame.
        end: seconds where it ends; None: at the last frame.
        rng: randomness in training; None samples the same frames every time.
        name: what messages call the source.
        limits: on the video.
        threads: of the decoder.

    Raises:
        FileNotFoundError: if the path does not exist.
        ClipError: one of its types, if the video or the span cannot be used.
        ValueError: if `persons` is out of range.
    """
    _check_persons(persons)
    with Video(source, name=name, limits=limits, threads=threads) as video:
        span = span_indices(video, start, end)
        indices = span[0] + sample_indices(span[1] - span[0], sampling, rng)
        return read_poses(video, span, indices, estimator, persons=persons)


def read_poses(
    video: Video, span: tuple[int, int], indices: NDArray[np.int64], estimator: Estimator, *, persons: int
) -> PoseClip:
    """Find the joints of the persons in a span of an open video.

    Args:
        video: an open video.
        span: its frames (first, past).
        indices: int64 (F,), the frames to look at, in element order.
        estimator: finds persons and joints.
        persons: how many to follow, 1 or 2.

    Raises:
        ClipError: a subclass of it, if frames do not decode or are too large.
        ValueError: if `persons` is out of range.
    """
    _check_persons(persons)
    # Persons are followed in order of time, each frame once; elements take them from there.
    ordered, order = np.unique(indices, return_inverse=True)
    [frames] = video.read_shapes(ordered, [pose_shape(video)], within=segments_of(ordered, span, len(indices)))
    return find_poses(video, span, frames, order, estimator, persons=persons)


def pose_shape(video: Video) -> Shape:
    """The pictures in which persons are searched: whole ones, scaled down if they are large."""
    return Shape(SHORT_SIDE if min(video.width, video.height) > SHORT_SIDE else None)


def find_poses(
    video: Video, span: tuple[int, int], frames: Frames, order: NDArray[np.int64], estimator: Estimator, *, persons: int
) -> PoseClip:
    """Find the joints of the persons in frames that were read.

    Args:
        video: the video that they were read from.
        span: its frames (first, past) from which these were chosen.
        frames: in order of time, each once, of the shape `pose_shape`.
        order: int64 (F,), for each frame of the clip its number among them.
        estimator: finds persons and joints.
        persons: how many to follow, 1 or 2.
    """
    started = time.perf_counter()
    tracks = Tracker(frames.pixels, frames.times, estimator).follow(persons)
    seconds = time.perf_counter() - started
    poses = make_poses(
        tracks,
        frames.times,
        order,
        scale=video.width / frames.pixels.shape[2],
        estimator=estimator.name,
        estimator_sha256=estimator.sha256,
        dark=_dark(frames.pixels)[order],
    )
    return PoseClip.of(video, frames, span, order, warnings=poses.warnings, poses=poses, pose_seconds=seconds)


def _check_persons(persons: int) -> None:
    if not 1 <= persons <= MAX_PERSONS:
        raise ValueError(f"persons is {persons}; 1 to {MAX_PERSONS} can be followed")


def _dark(pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which frames are dark, bool (N,): models find bodies in them that are not there, and are sure of them."""
    brightness = np.percentile(pixels[:, ::4, ::4].mean(axis=-1), 95, axis=(1, 2))
    dark: NDArray[np.bool_] = brightness < DARK
    return dark
