"""What can be wrong with a video, one type each, so that callers can answer each in its own way."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import av

from sefar_serve.errors import SefarError


class ClipError(SefarError, ValueError):
    """A video, or the part of it asked for, that cannot be used."""

    status = 400
    code = "bad_clip"
    param = "input"


class NotAVideoError(ClipError):
    """The bytes are no video container: text, random bytes, a picture, a file cut before its index."""

    status = 415
    code = "not_a_video"


class EmptyVideoError(ClipError):
    """Zero bytes, or a video stream which presents no frame."""

    status = 422
    code = "empty_video"


class NoVideoStreamError(ClipError):
    """A media file without moving pictures, e.g. audio only."""

    status = 415
    code = "no_video_stream"


class UndecodableVideoError(ClipError):
    """A video of which frames that are needed do not decode.

    Attributes:
        frames_decoded: how many frames of it do.
    """

    status = 422
    code = "undecodable_video"

    def __init__(self, message: str, frames_decoded: int = 0) -> None:
        super().__init__(message)
        self.frames_decoded = frames_decoded


class ClipLimitError(ClipError):
    """A video larger than `ClipLimits` or the caller's limit on windows allows."""

    status = 413
    code = "clip_too_large"


class ClipSpanError(ClipError):
    """A span of time, or windows in it, which the video does not have."""

    code = "invalid_span"


DAMAGE = (av.FFmpegError, EOFError, UnicodeDecodeError, IndexError, AttributeError, LookupError)
"""What PyAV raises on damaged files; some are Python's own, out of assumptions a damaged header breaks."""

_NOT_THE_FILES_FAULT = frozenset({errno.EMFILE, errno.ENFILE, errno.EACCES})


@contextmanager
def damage_as(error_type: type[ClipError], message: str) -> Iterator[None]:
    """Turn whatever PyAV raises on a damaged file into one typed error.

    Failures of the machine (no file handles, no permission) pass through as they are. "Cannot allocate
    memory" does not: a damaged header that asks for terabytes is what it comes from.

    Args:
        error_type: the error to raise.
        message: names the source and the mend.
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
