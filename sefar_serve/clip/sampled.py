"""Where a clip's frames came from: what every kind of clip tells, whatever a model sees of it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sefar_serve.clip.video import Frames, Video, replacements
from sefar_serve.quantity import quantity

DIGEST_STEP = 8
"""Every so many pixels of a frame, across and down, are part of a clip's digest."""


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """The F frames that were sampled from a span of a video.

    Attributes:
        indices: int64 (F,), frame numbers in the whole video, in element order: [fine_1 | … | fine_M | context].
        times: float64 (F,), seconds since the video's first frame.
        frame_count: number of frames in the span that was sampled.
        duration: length of the whole video, seconds.
        width: width of the upright video, pixels.
        height: height of the upright video, pixels.
        stream_index: index of the stream in its container.
        corrupt: numbers of sampled frames that the decoder flagged as damaged.
        warnings: about these frames, to be shown to the user with the answer.
        video_warnings: about the video, the same for all clips of it.
        digest: SHA-256 of a part of the frames' pixels. Two clips have the same one only if they show the same, even
            where a model sees the same in both, such as no person.
    """

    indices: NDArray[np.int64]
    times: NDArray[np.float64]
    frame_count: int
    duration: float
    width: int
    height: int
    stream_index: int
    corrupt: tuple[int, ...] = ()
    warnings: tuple[str, ...] = ()
    video_warnings: tuple[str, ...] = ()
    digest: str = ""

    @classmethod
    def of(
        cls,
        video: Video,
        read: Frames,
        span: tuple[int, int],
        order: slice | NDArray[np.int64] = slice(None),
        /,
        *,
        warnings: tuple[str, ...] = (),
        **more: Any,
    ) -> Self:
        """Tell where frames came from.

        Args:
            video: the video that they were read from.
            read: the frames.
            span: (first, past) of the frames that were sampled.
            order: which of the frames are the clip's, in element order.
            warnings: added to those about frames that do not decode, and about their number.
            more: further fields of a subclass.
        """
        indices = read.indices[order]
        frame_count = span[1] - span[0]
        return cls(
            indices=indices,
            times=read.times[order],
            frame_count=frame_count,
            duration=video.duration,
            width=video.width,
            height=video.height,
            stream_index=video.stream_index,
            corrupt=tuple(n for n in read.corrupt if n in indices),
            warnings=(
                *_of_repeats(frame_count, len(indices)),
                *replacements(read.requested[order], indices),
                *warnings,
            ),
            video_warnings=video.warnings,
            digest=hashlib.sha256(read.pixels[:, ::DIGEST_STEP, ::DIGEST_STEP][order].tobytes()).hexdigest(),
            **more,
        )


def _of_repeats(frame_count: int, taken: int) -> tuple[str, ...]:
    """A warning about a clip with fewer frames than are taken of it."""
    if frame_count >= taken:
        return ()
    return (
        f"the clip has {quantity(frame_count, 'frame')}, fewer than the {taken} that are sampled; frames are repeated",
    )
