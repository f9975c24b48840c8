"""What a decode process says, and how it is read: JSON and plain numbers, which cannot do harm when they are read.

The parent reads no pickles, because an attacker may control the process. Shapes and dtypes follow from the model, so
that no size is taken from the process either.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from sefar_serve.clip import ClipError, UndecodableVideoError
from sefar_serve.clip import errors as clip_errors
from sefar_serve.decoding import errors
from sefar_serve.decoding.task import Decoded
from sefar_serve.errors import SefarError
from sefar_serve.inputs import ModelClip
from sefar_serve.metadata import POSES, ModelMetadata, TensorSpec, memory_layout
from sefar_serve.pose import PoseError, Poses
from sefar_serve.pose import errors as pose_errors

MOST_TEXT = 2000
"""Characters of an error message or a warning that are kept."""


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")


class PosesTold(_Message):
    """What is told of poses besides their arrays."""

    estimator: str
    estimator_sha256: str
    warnings: tuple[str, ...]


class ClipTold(_Message):
    """What is told of a clip besides its arrays; see `ModelClip`."""

    start: float
    end: float
    frame_count: int
    duration: float
    width: int
    height: int
    stream_index: int
    corrupt: tuple[int, ...]
    warnings: tuple[str, ...]
    video_warnings: tuple[str, ...]
    digest: str
    pose_seconds: float
    poses: PosesTold | None


class Failure(_Message):
    """Why a video was not decoded.

    Attributes:
        code: of the error.
        message: for the user.
        frames_decoded: of an `UndecodableVideoError`.
        trace: of an unexpected exception, for the log.
    """

    code: str
    message: str
    frames_decoded: int = 0
    trace: str = ""


class Reply(_Message):
    """What a decode process answers.

    Attributes:
        ready: it has started; which protections hold.
        clips: so many clips of windows are decoded; it waits for memory for them.
        decoded: the clips are in the memory.
        seconds: time spent on the video.
        failure: the video was not decoded, or the process cannot start.
        retire: the process has used much memory or decoded many videos, and should be replaced.
    """

    ready: tuple[str, ...] | None = None
    clips: int | None = None
    decoded: tuple[ClipTold, ...] | None = None
    seconds: float = 0.0
    failure: Failure | None = None
    retire: bool = False


class Start(_Message):
    """What a new decode process is asked.

    Attributes:
        memory: bytes that it may use beyond what it starts with.
        nice: its niceness.
        videos: after so many it asks to be replaced.
        remote: whether it reads remote files itself, so that it keeps network and files.
        pose: metadata of a model whose pose estimator it loads; None loads none.
    """

    memory: int
    nice: int
    videos: int
    remote: bool
    pose: ModelMetadata | None


class Ask(_Message):
    """A video to decode.

    It comes with a descriptor of the video, unless that is at `url`, and of memory for one clip, if that is new.

    Attributes:
        model: metadata, as JSON, of the model that the clips are for.
        name: of the video in messages.
        url: address for fsspec.
        new_memory: whether it comes with memory for one clip, to be used from now on.
        seconds: that decoding may take.
        limits: fields of `ClipLimits`.
        start, end, windows, stride, max_windows: see `DecodeTask`.
    """

    model: str
    name: str
    url: str | None
    new_memory: bool
    seconds: float
    limits: dict[str, float]
    start: float | None
    end: float | None
    windows: tuple[float, ...]
    stride: float | None
    max_windows: int


def specs_of(meta: ModelMetadata) -> dict[str, TensorSpec]:
    """Dtype and shape of every array of a clip."""
    frames = meta.sampling.frames
    found = dict(meta.inputs)
    found["indices"] = TensorSpec(np.dtype(np.int64), (frames,))
    found["times"] = TensorSpec(np.dtype(np.float64), (frames,))
    if meta.sees_joints:
        shape = (frames, meta.persons)
        found["image"] = TensorSpec(np.dtype(np.float32), (*shape, len(meta.joints), 2))
        found["presence"] = TensorSpec(np.dtype(np.float32), shape)
        found["detected"] = TensorSpec(np.dtype(np.uint8), shape)
    return found


def segment_size(meta: ModelMetadata, clips: int) -> int:
    """Bytes of so many clips."""
    return clips * memory_layout(specs_of(meta))[1]


def arrays_of(memory: NDArray[np.uint8], meta: ModelMetadata, number: int) -> dict[str, NDArray[Any]]:
    """The arrays of a clip, as views of the memory.

    Args:
        memory: uint8, of `segment_size`.
        meta: of the model.
        number: of the clip.
    """
    specs = specs_of(meta)
    offsets, size = memory_layout(specs)
    found = {}
    for name, (dtype, shape) in specs.items():
        begin = number * size + offsets[name]
        found[name] = memory[begin : begin + dtype.itemsize * prod(shape)].view(dtype).reshape(shape)
    return found


def store(decoded: Decoded, memory: NDArray[np.uint8], meta: ModelMetadata) -> tuple[ClipTold, ...]:
    """Write the arrays of clips into memory, and give the rest of them."""
    told = []
    for number, (clip, (start, end)) in enumerate(zip(decoded.clips, decoded.times, strict=True)):
        given: dict[str, NDArray[Any]] = {**clip.inputs, "indices": clip.indices, "times": clip.times}
        if clip.poses is not None:
            given |= {name: getattr(clip.poses, name) for name in ("image", "presence", "detected")}
        for name, values in arrays_of(memory, meta, number).items():
            values[...] = given[name]
        poses = clip.poses
        told.append(
            ClipTold(
                start=start,
                end=end,
                **{
                    name: getattr(clip, name)
                    for name in ClipTold.model_fields.keys() - {"start", "end", "poses", "warnings", "video_warnings"}
                },
                warnings=_short(clip.warnings),
                video_warnings=_short(clip.video_warnings),
                poses=None
                if poses is None
                else PosesTold(
                    estimator=poses.estimator, estimator_sha256=poses.estimator_sha256, warnings=_short(poses.warnings)
                ),
            )
        )
    return tuple(told)


def restore(told: ClipTold, memory: NDArray[np.uint8], meta: ModelMetadata, number: int) -> ModelClip:
    """The clip that `store` wrote, as copies: the memory is used again."""
    arrays = {name: values.copy() for name, values in arrays_of(memory, meta, number).items()}
    poses = None
    if meta.sees_joints and told.poses is not None:
        poses = Poses(
            joints=arrays[POSES],
            image=arrays["image"],
            presence=arrays["presence"],
            detected=arrays["detected"].astype(bool),
            estimator=told.poses.estimator,
            estimator_sha256=told.poses.estimator_sha256,
            warnings=told.poses.warnings,
        )
    return ModelClip(
        **told.model_dump(exclude={"start", "end", "poses"}),
        indices=arrays["indices"],
        times=arrays["times"],
        inputs={name: arrays[name] for name in meta.inputs},
        poses=poses,
    )


def failure_of(error: SefarError) -> Failure:
    """An error as it is sent."""
    return Failure(code=error.code, message=_short([str(error)])[0], frames_decoded=getattr(error, "frames_decoded", 0))


def error_of(failure: Failure) -> SefarError:
    """The error that was sent. One of an unknown kind means that the video cannot be decoded."""
    kind = _KINDS.get(failure.code, UndecodableVideoError)
    if issubclass(kind, UndecodableVideoError):
        return kind(failure.message, failure.frames_decoded)
    if issubclass(kind, errors.UnreadableFileError):
        return kind(failure.message, failure.code)
    return kind(failure.message)


def _short(texts: Any) -> tuple[str, ...]:
    return tuple(text if len(text) <= MOST_TEXT else f"{text[:MOST_TEXT]}…" for text in texts)


_KINDS: dict[str, type[ClipError] | type[PoseError]] = {
    kind.code: kind
    for module in (clip_errors, pose_errors, errors)
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, ClipError | PoseError)
} | {"file_not_found": errors.UnreadableFileError}
