"""Where a clip's frames came from: what every kind of clip tells, whatever a model sees of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sefar_serve.clip.video import Frames, Video


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
        warnings: to be shown to the user with the answer.
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
            warnings: added to those of the video and of the frames.
            more: further fields of a subclass.
        """
        indices = read.indices[order]
        return cls(
            indices=indices,
            times=read.times[order],
            frame_count=span[1] - span[0],
            duration=video.duration,
            width=video.width,
            height=video.height,
            stream_index=video.stream_index,
            corrupt=tuple(n for n in read.corrupt if n in indices),
            warnings=(*video.warnings, *read.warnings, *warnings),
            **more,
        )
