"""From predictions to the JSON that users see, shared by the gateway, the command line and Python."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sefar_serve.inputs import ModelClip
from sefar_serve.metadata import ModelMetadata
from sefar_serve.recognition import Recognised, Window
from sefar_serve.reliability import reliability, softmax, top_classes
from sefar_serve.schemas.chat import SeenClip
from sefar_serve.schemas.pose import PoseInfo
from sefar_serve.schemas.video import (
    Classification,
    ClipInfo,
    Embedding,
    Label,
    Segment,
    SourceFrame,
    Usage,
    Vector,
    WindowEmbedding,
    WindowLabels,
)
from sefar_serve.segments import Merging, merge


def classification(
    found: Recognised,
    meta: ModelMetadata,
    *,
    index: int,
    clip_id: str | None = None,
    top_k: int,
    attributes: bool = True,
    raw_scores: bool = False,
    poses: bool = False,
    merging: Merging | None = None,
    with_timeline: bool = True,
) -> Classification:
    """The labels of one video.

    Args:
        found: the recognizer's results.
        meta: description of the model.
        index: position of the video in its request.
        clip_id: id for asking about the video again; None if that is not possible.
        top_k: number of labels, capped at the number of classes.
        attributes: whether labels include their attributes.
        raw_scores: whether labels include their logits.
        poses: whether the answer has the joints that the model saw.
        merging: how windows become segments; None if the video was not divided into windows.
        with_timeline: whether the answer of a video with several windows has them all.
    """

    def labels_of(window: Window) -> WindowLabels:
        return window_labels(window, meta, top_k=top_k, attributes=attributes, raw_scores=raw_scores, poses=poses)

    best = found.windows[best_window(found.windows)]
    stands = labels_of(best)
    return Classification(
        index=index,
        name=found.name,
        clip_id=clip_id,
        labels=stands.labels,
        reliability=stands.reliability,
        familiarity=stands.familiarity,
        unfamiliar=stands.unfamiliar,
        clip=clip_info(best.clip, meta, poses=poses),
        timeline=list(map(labels_of, found.windows)) if with_timeline and len(found.windows) > 1 else None,
        segments=None if merging is None else segments(found.windows, meta, merging),
    )


def window_labels(
    window: Window, meta: ModelMetadata, *, top_k: int, attributes: bool, raw_scores: bool, poses: bool
) -> WindowLabels:
    """The labels of one window; arguments as of `classification`."""
    return WindowLabels(
        start=window.start,
        end=window.end,
        labels=top_labels(window.prediction.outputs.logits, meta, top_k, attributes, raw_scores),
        reliability=reliability(window.prediction.outputs.mc_logits),
        familiarity=window.familiarity,
        unfamiliar=window.unfamiliar,
        pose=_joints_of(window, False) if poses else None,
        warnings=list(window.clip.warnings),
    )


def segments(windows: Sequence[Window], meta: ModelMetadata, merging: Merging) -> list[Segment]:
    """The segments of sliding windows. Windows in which no person was found do not count.

    Args:
        windows: in order of time.
        meta: names of the classes.
        merging: how windows become segments.
    """
    counted = [window for window in windows if not window.clip.without_person]
    logits = np.array([window.prediction.outputs.logits for window in counted], np.float32)
    merged = merge(
        [(window.start, window.end) for window in counted],
        softmax(logits.reshape(-1, len(meta.labels))),
        merging,
    )
    return [
        Segment(start=one.start, end=one.end, label=meta.labels[one.index], index=one.index, score=one.score)
        for one in merged
    ]


def embedding(
    found: Recognised,
    meta: ModelMetadata,
    *,
    index: int,
    clip_id: str | None = None,
    include: Sequence[str],
    as_base64: bool,
    poses: bool = False,
    with_timeline: bool = True,
) -> Embedding:
    """The vectors of one video; with sliding windows, their mean and the vectors of each window.

    Windows without a person are left out of the mean, unless all are.

    Args:
        found: the recognizer's results.
        meta: description of the model.
        index: position of the video in its request.
        clip_id: id for asking about the video again; None if that is not possible.
        include: any of ``embedding`` and ``tokens``.
        as_base64: whether vectors and joints are base64 of little-endian float32 instead of lists.
        poses: whether the answer has the joints that the model saw.
        with_timeline: whether the answer of a video with several windows has them all.
    """
    counted = [window for window in found.windows if not window.clip.without_person] or found.windows
    pooled, tokens = _vectors(counted, include, as_base64)
    timeline = None
    if with_timeline and len(found.windows) > 1:
        timeline = [
            window_embedding(window, include=include, as_base64=as_base64, poses=poses) for window in found.windows
        ]
    return Embedding(
        index=index,
        name=found.name,
        clip_id=clip_id,
        embedding=pooled,
        tokens=tokens,
        clip=clip_info(found.windows[0].clip, meta, poses=poses, as_base64=as_base64),
        timeline=timeline,
    )


def window_embedding(window: Window, *, include: Sequence[str], as_base64: bool, poses: bool) -> WindowEmbedding:
    """The vectors of one window; arguments as of `embedding`."""
    pooled, tokens = _vectors([window], include, as_base64)
    return WindowEmbedding(
        start=window.start,
        end=window.end,
        embedding=pooled,
        tokens=tokens,
        pose=_joints_of(window, as_base64) if poses else None,
        warnings=list(window.clip.warnings),
    )


def _vectors(
    windows: Sequence[Window], include: Sequence[str], as_base64: bool
) -> tuple[Vector | None, list[Vector] | None]:
    """Mean embedding and mean tokens of windows, each None if it is not included."""
    outputs = [window.prediction.outputs for window in windows]
    pooled = np.stack([o.embedding for o in outputs]).mean(axis=0)
    tokens = np.stack([o.tokens for o in outputs]).mean(axis=0)
    return (
        _vector(pooled, as_base64) if "embedding" in include else None,
        [_vector(token, as_base64) for token in tokens] if "tokens" in include else None,
    )


def best_window(windows: Sequence[Window]) -> int:
    """Number of the window that stands for the whole video: the most reliable one.

    One in which no person was found stands for it only if none has a person: a model of joints answers for an empty
    room too, sometimes with a high reliability.
    """

    def worth(number: int) -> tuple[bool, float]:
        window = windows[number]
        return not window.clip.without_person, reliability(window.prediction.outputs.mc_logits)

    return max(range(len(windows)), key=worth)


def seen_clip(window: Window, meta: ModelMetadata, *, name: str, clip_id: str | None, top_k: int = 5) -> SeenClip:
    """A clip of a conversation, as the classifier sees it.

    Args:
        window: the clip.
        meta: description of the model.
        name: name of the video.
        clip_id: id for asking about the clip again; None if that is not possible.
        top_k: number of labels, capped at the number of classes.
    """
    outputs = window.prediction.outputs
    return SeenClip(
        clip_id=clip_id,
        name=name,
        labels=top_labels(outputs.logits, meta, top_k, True, False),
        reliability=reliability(outputs.mc_logits),
        familiarity=window.familiarity,
        unfamiliar=window.unfamiliar,
        clip=clip_info(window.clip, meta),
    )


def top_labels(
    logits: NDArray[np.float32], meta: ModelMetadata, top_k: int, attributes: bool, raw_scores: bool
) -> list[Label]:
    """The top classes, best first.

    Args:
        logits: float32 (K,).
        meta: names and attributes of the K classes.
        top_k: number of labels, capped at K.
        attributes: whether labels include their attributes.
        raw_scores: whether labels include their logits.
    """
    return [
        Label(
            label=meta.labels[i],
            index=i,
            score=score,
            logit=float(logits[i]) if raw_scores else None,
            attributes=meta.attributes[i] if attributes and meta.attributes else {},
        )
        for i, score in top_classes(logits, top_k)
    ]


def clip_info(clip: ModelClip, meta: ModelMetadata, *, poses: bool = False, as_base64: bool = False) -> ClipInfo:
    """Where the model's frames came from, the persons in them, and the decoder's warnings.

    Args:
        clip: the clip.
        meta: description of the model.
        poses: whether joints are included.
        as_base64: whether joints are base64 of little-endian float32 instead of lists.
    """
    context = meta.sampling.elements - 1
    return ClipInfo(
        frame_count=clip.frame_count,
        duration=clip.duration,
        width=clip.width,
        height=clip.height,
        stream=clip.stream_index,
        frames=[
            SourceFrame(
                index=int(index),
                time=float(time),
                element="context" if element == context else f"fine_{element + 1}",
            )
            for index, time, element in zip(clip.indices, clip.times, meta.sampling.element_of_frame, strict=True)
        ],
        corrupt_frames=list(clip.corrupt),
        warnings=[*clip.video_warnings, *clip.warnings],
        pose=None if clip.poses is None else PoseInfo.of(clip.poses, joints=poses, as_base64=as_base64),
    )


def _joints_of(window: Window, as_base64: bool) -> PoseInfo | None:
    found = window.clip.poses
    return None if found is None else PoseInfo.of(found, joints=True, as_base64=as_base64)


def usage(found: Sequence[object], meta: ModelMetadata) -> Usage:
    """Clips and model frames used for the videos that were recognised."""
    clips = sum(len(result.windows) for result in found if isinstance(result, Recognised))
    frames = clips * meta.sampling.frames
    return Usage(prompt_tokens=frames, total_tokens=frames, clips=clips)


def _vector(values: NDArray[np.float32], as_base64: bool) -> Vector:
    if as_base64:
        return base64.b64encode(values.astype("<f4").tobytes()).decode("ascii")
    return [float(value) for value in values]
