"""What can be wrong with a video: one error type per cause, so that callers can handle each differently."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import av

from sefar_serve.errors import SefarError


class ClipError(SefarError, ValueError):
    """A video, or the requested part of it, cannot be used."""

    status = 400
    code = "bad_clip"
    param = "input"


class NotAVideoError(ClipError):
    """The bytes are not a video container: text, random bytes, a picture, a file truncated before its index."""

    status = 415
    code = "not_a_video"


class EmptyVideoError(ClipError):
    """The file or body has zero bytes, or its video stream has no frames."""

    status = 422
    code = "empty_video"


class NoVideoStreamError(ClipError):
    """The file has no video stream, e.g. audio only."""

    status = 415
    code = "no_video_stream"


class UndecodableVideoError(ClipError):
    """Frames that the model needs cannot be decoded.

    Attributes:
        frames_decoded: number of frames of the video that do.
    """

    status = 422
    code = "undecodable_video"

    def __init__(self, message: str, frames_decoded: int = 0) -> None:
        super().__init__(message)
        self.frames_decoded = frames_decoded


class ClipLimitError(ClipError):
    """The video exceeds a limit on bytes, pixels, duration, frames or windows."""

    status = 413
    code = "clip_too_large"


class ClipSpanError(ClipError):
    """A time span or a window is invalid or outside the video."""

    code = "invalid_span"


DAMAGE = (av.FFmpegError, EOFError, UnicodeDecodeError, IndexError, AttributeError, LookupError)
"""What PyAV raises on damaged files. Some are Python's own exceptions, from code that assumes an intact header."""

_NOT_THE_FILES_FAULT = frozenset({errno.EMFILE, errno.ENFILE, errno.EACCES})


@contextmanager
def damage_as(error_type: type[ClipError], message: str) -> Iterator[None]:
    """Turn whatever PyAV raises on a damaged file into one typed error.

    Failures of the machine (no file handles, no permission) pass through unchanged. "Cannot allocate
    memory" does not: it comes from damaged headers that ask for terabytes.

    Args:
        error_type: the error to raise.
        message: names the source and says how to fix it.
    """
    try:
        yield
    except ClipError:
        raise
    except DAMAGE as error:
        if getattr(error, "errno", None) in _NOT_THE_FILES_FAULT:
            raise
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise error_type(f"{message} ({reason})") from error
