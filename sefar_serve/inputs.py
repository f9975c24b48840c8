"""From a video to the inputs of a model: its frames, the joints of the persons in them, or both.

Whoever runs models uses this, so that nothing else needs to know what a model sees.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sefar_serve.clip import ClipLimitError, ClipLimits, Sampled, Video, VideoSource, sample_indices, span_indices
from sefar_serve.clip.load import Clip, read_clips, segments_of, window_times
from sefar_serve.clip.video import Shape
from sefar_serve.metadata import FRAMES, POSES, ModelMetadata
from sefar_serve.pose.estimator import Estimator
from sefar_serve.pose.estimators import Estimators
from sefar_serve.pose.load import PoseClip, find_poses, pose_shape, read_poses
from sefar_serve.pose.poses import Poses


@dataclass(frozen=True, kw_only=True)
class ModelClip(Sampled):
    """What a model takes of a clip, and where its frames came from.

    Attributes:
        inputs: by name, without the batch axis, as in `ModelMetadata.inputs`.
        poses: of the F frames, in element order; None if the model sees no joints.
        pose_seconds: time spent on finding joints; 0 if the model sees none.
    """

    inputs: Mapping[str, NDArray[Any]]
    poses: Poses | None = None
    pose_seconds: float = 0.0

    @property
    def without_person(self) -> bool:
        """Whether the model sees joints and no person was found in any frame."""
        return self.poses is not None and self.poses.empty

    def without_inputs(self) -> Self:
        """The same clip without what the model took of it, which may be pictures."""
        return replace(self, inputs={})


def load_inputs(
    source: VideoSource,
    meta: ModelMetadata,
    estimators: Estimators,
    *,
    start: float | None = None,
    end: float | None = None,
    name: str | None = None,
    limits: ClipLimits = ClipLimits(),  # noqa: B008  (frozen)
    threads: int = 1,
) -> ModelClip:
    """Make the inputs of a model from a clip. Frames are those of `load_clip`, joints those of `load_poses`.

    Args:
        source: path, bytes or binary file object.
        meta: description of the model.
        estimators: finds the joints.
        start: where the clip begins, in seconds since the first frame; None for the first frame.
        end: where the clip ends, in seconds since the first frame; None for the end of the video.
        name: name of the source in messages.
        limits: limits on the video.
        threads: threads of the decoder; 0 lets FFmpeg choose.

    Raises:
        FileNotFoundError: if the path does not exist.
        ClipError: a subclass of it, if the video or the span cannot be used.
        PoseError: a subclass of it, if the joints that the model takes cannot be found here.
    """
    estimator = estimators.of(meta)
    with Video(source, name=name, limits=limits, threads=threads) as video:
        return _read(video, meta, estimator, [span_indices(video, start, end)])[0]


def load_input_windows(
    source: VideoSource,
    meta: ModelMetadata,
    estimators: Estimators,
    *,
    windows: Sequence[float],
    stride: float | None = None,
    max_windows: int,
    start: float | None = None,
    end: float | None = None,
    name: str | None = None,
    limits: ClipLimits = ClipLimits(),  # noqa: B008  (frozen)
    threads: int = 1,
) -> tuple[list[tuple[float, float]], list[ModelClip]]:
    """Make the inputs of a model from the clips of sliding windows over a video, which is opened once.

    Persons are followed within each window, so that a window has the same inputs as the same span alone.

    Args:
        source: path, bytes or binary file object.
        meta: description of the model.
        estimators: finds the joints.
        windows: lengths of windows in seconds; windows of several lengths are read together.
        stride: seconds from the start of a window to the start of the next of the same length; None for half of it.
        max_windows: maximum number of windows, of all lengths together.
        start: where the first window begins, in seconds since the first frame; None for the first frame.
        end: where the last window ends, in seconds since the first frame; None for the end of the video.
        name: name of the source in messages.
        limits: limits on the video.
        threads: threads of the decoder; 0 lets FFmpeg choose.

    Returns:
        The windows' (start, end) in seconds, as `sefar_serve.clip.load_windows` gives them for each length, in order
        of start and end, and their clips.

    Raises:
        FileNotFoundError: if the path does not exist.
        ClipError: a subclass of it; `ClipLimitError` for too many windows suggests a stride that fits.
        PoseError: a subclass of it, if the joints that the model takes cannot be found here.
    """
    estimator = estimators.of(meta)
    with Video(source, name=name, limits=limits, threads=threads) as video:
        times = sorted(
            {
                bounds
                for window in windows
                for bounds in window_times(
                    video, window, window / 2 if stride is None else stride, max_windows, start, end
                )
            }
        )
        if len(times) > max_windows:
            raise ClipLimitError(
                f"{video.name}: {len(times)} windows of {len(windows)} lengths exceed the limit of {max_windows} "
                "windows; use fewer lengths or a longer stride"
            )
        return times, _read(video, meta, estimator, [span_indices(video, *bounds) for bounds in times])


def _read(
    video: Video, meta: ModelMetadata, estimator: Estimator | None, spans: Sequence[tuple[int, int]]
) -> list[ModelClip]:
    chosen = [first + sample_indices(past - first, meta.sampling) for first, past in spans]
    # Frames of windows are decoded together; with joints, window by window.
    video.check_work([np.concatenate(chosen)] if estimator is None else chosen)
    if estimator is None:
        assert meta.pixels is not None
        clips = read_clips(video, spans, chosen, resize=meta.pixels.resize, size=meta.pixels.size)
        return [_joined(clip, None) for clip in clips]
    # Window by window: a model sees small squares, but persons are searched in whole pictures, which are large.
    if meta.pixels is None:
        return [
            _joined(None, read_poses(video, span, indices, estimator, persons=meta.persons))
            for span, indices in zip(spans, chosen, strict=True)
        ]
    square = Shape(meta.pixels.resize, meta.pixels.size)
    return [
        _read_both(video, span, indices, square, estimator, meta.persons)
        for span, indices in zip(spans, chosen, strict=True)
    ]


def _read_both(
    video: Video, span: tuple[int, int], indices: NDArray[np.int64], square: Shape, estimator: Estimator, persons: int
) -> ModelClip:
    """Decode the frames of a clip once, for its squares and for the whole pictures in which persons are searched."""
    ordered, order = np.unique(indices, return_inverse=True)
    within = segments_of(ordered, span, len(indices))
    small, whole = video.read_shapes(ordered, [square, pose_shape(video)], within=within)
    clip = Clip.of(video, small, span, order, frames=small.pixels[order])
    return _joined(clip, find_poses(video, span, whole, order, estimator, persons=persons))


def _joined(clip: Clip | None, posed: PoseClip | None) -> ModelClip:
    """One clip from what was read of the same frames."""
    found = [part for part in (clip, posed) if part is not None]
    told = {field.name: getattr(found[0], field.name) for field in fields(Sampled)}
    # Both warn of repeated frames and of those that do not decode.
    told["warnings"] = tuple(dict.fromkeys(warning for part in found for warning in part.warnings))
    inputs: dict[str, NDArray[Any]] = {}
    if clip is not None:
        inputs[FRAMES] = clip.frames
    if posed is not None:
        inputs[POSES] = posed.poses.joints
    if posed is None:
        return ModelClip(**told, inputs=inputs)
    return ModelClip(**told, inputs=inputs, poses=posed.poses, pose_seconds=posed.pose_seconds)
