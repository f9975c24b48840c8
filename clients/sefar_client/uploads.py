"""Files to upload: what can be sent, how it is opened, and its file name."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

Upload = str | os.PathLike[str] | bytes | BinaryIO
"""A path, the bytes of a file, or an open file."""


class Reader:
    """The methods of an open file that httpx needs.

    It hides the file descriptor, from which httpx would take the length, which is 0 for a pipe. A file that cannot seek
    is sent in chunks, without a length.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.read = file.read
        if _seekable(file):
            self.seek, self.tell = file.seek, file.tell


def checked(given: object, what: str) -> Upload:
    """Check that a value can be sent, and return it.

    Args:
        given: the value.
        what: what it should be, for the error message, e.g. "a video".

    Raises:
        TypeError: it cannot be sent.
    """
    if isinstance(given, bytearray | memoryview):
        return bytes(given)
    if isinstance(given, str | os.PathLike | bytes):
        return given
    if isinstance(given, io.TextIOBase):
        raise TypeError(f"{what} is opened as text; open it with mode 'rb'")
    if not callable(getattr(given, "read", None)):
        raise TypeError(f"{what} must be a path, bytes or a file opened with mode 'rb', not {type(given).__name__}")
    return cast(BinaryIO, given)


def repeatable(upload: Upload) -> bool:
    """Whether it can be sent again; a pipe, open or given by its path, is empty after the first time."""
    if isinstance(upload, bytes):
        return True
    if isinstance(upload, str | os.PathLike):
        return not Path(upload).is_fifo()
    return _seekable(upload)


@contextmanager
def opened(upload: Upload) -> Iterator[tuple[str, bytes | Reader]]:
    """Yield the name and the content of an upload; a file that is opened here is closed at the end.

    Raises:
        OSError: it cannot be opened.
    """
    if isinstance(upload, str | os.PathLike):
        with _open(upload) as file:
            yield _sendable(Path(upload).name), Reader(file)
    elif isinstance(upload, bytes):
        yield "video", upload
    else:
        yield name_of(upload) or "video", Reader(upload)


def content_of(upload: Upload) -> bytes:
    """All bytes of an upload; an open file is read from its start if it can be rewound.

    Raises:
        OSError: it cannot be read.
    """
    with opened(upload) as (_, content):
        if isinstance(content, bytes):
            return content
        if hasattr(content, "seek"):
            content.seek(0)
        return content.read()


def name_of(file: BinaryIO) -> str | None:
    """The last part of an open file's name; None if it has none, like a pipe."""
    name = getattr(file, "name", None)
    return _sendable(Path(name).name) if isinstance(name, str) else None


def _seekable(file: BinaryIO) -> bool:
    return hasattr(file, "seekable") and file.seekable()


def _open(path: str | os.PathLike[str]) -> BinaryIO:
    try:
        return Path(path).open("rb")
    except ValueError as error:  # a NUL, or a character that the file system cannot encode
        raise OSError(errno.EINVAL, f"invalid file name ({error})", os.fspath(path)) from error


def _sendable(name: str) -> str:
    """Replace the lone surrogates that Python uses for file name bytes that are not valid UTF-8."""
    return name.encode("utf-8", "replace").decode()
