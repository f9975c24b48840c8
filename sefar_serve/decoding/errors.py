"""What can go wrong where videos are decoded, besides what is wrong with a video."""

from __future__ import annotations

from sefar_serve.clip import ClipError
from sefar_serve.errors import SefarError


class DecoderCrashedError(ClipError):
    """The video crashed the process that decoded it."""

    status = 422
    code = "decoder_crashed"


class DecoderTimeoutError(ClipError):
    """Decoding the video took longer than allowed."""

    status = 504
    code = "decoder_timeout"


class UnreadableFileError(ClipError):
    """The file cannot be read, e.g. for lack of permission, or because its server does not answer.

    Attributes:
        code: ``file_not_found`` if it does not exist.
    """

    status = 422
    code = "unreadable_file"

    def __init__(self, message: str, code: str = "unreadable_file") -> None:
        super().__init__(message)
        self.code = code


class DecodersUnavailableError(SefarError, RuntimeError):
    """No process can decode, e.g. for lack of memory, or because all of them are busy for too long."""

    status = 503
    code = "decoders_unavailable"
    retry_after = 1


class DecodeStoppedError(SefarError, RuntimeError):
    """Nobody waits for this video any more, or the decoders are closed."""

    status = 503
    code = "decode_stopped"


class UnexpectedDecodeError(RuntimeError):
    """A decode process met an exception that it should not.

    Args:
        name: name of the video.
        what: the exception.
        trace: its traceback, for the log.
    """

    def __init__(self, name: str, what: str, trace: str) -> None:
        super().__init__(f"{name}: {what}\n{trace}")
        self.what = what
