"""What can be wrong with a video; each says which one and what would help."""

from __future__ import annotations

from typing import ClassVar


class ClipError(ValueError):
    """A video cannot be turned into a clip.

    Attributes:
        code: machine-readable reason.
    """

    code: ClassVar[str] = "clip_error"


class NotAVideoError(ClipError):
    """The bytes are no video container that we read."""

    code = "not_a_video"


class NoVideoStreamError(ClipError):
    """A container without pictures, e.g. audio only."""

    code = "no_video_stream"


class EmptyVideoError(ClipError):
    """No bytes, or a video stream without frames."""

    code = "empty_video"


class UndecodableVideoError(ClipError):
    """Too few frames decode to show the clip.

    Attributes:
        frames_decoded: how many did.
    """

    code = "undecodable_video"

    def __init__(self, message: str, frames_decoded: int = 0) -> None:
        super().__init__(message)
        self.frames_decoded = frames_decoded


class ClipLimitError(ClipError):
    """Larger or longer than the limits allow."""

    code = "clip_too_large"


class ClipSpanError(ClipError):
    """A start and end that are not a part of the video."""

    code = "invalid_span"
