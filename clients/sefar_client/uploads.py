"""A file on its way to the gateway: what may be sent, how it is opened, and under which name."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

Upload = str | os.PathLike[str] | bytes | BinaryIO
"""A path, what a file holds, or an open one."""


class Reader:
    """What httpx needs of an open file.

    Not its descriptor: httpx takes the size of what is behind that for the length, which is 0 for a pipe. A file that
    cannot seek is sent in chunks, and its length is not said.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.read = file.read
        if _seekable(file):
            self.seek, self.tell = file.seek, file.tell


def checked(given: object, what: str) -> Upload:
    """What was given, if it can be sent.

    Args:
        given: by the caller.
        what: it is meant to be, for the error: "a video".

    Raises:
        TypeError: it cannot.
    """
    if isinstance(given, bytearray | memoryview):
        return bytes(given)
    if isinstance(given, str | os.PathLike | bytes):
        return given
    if isinstance(given, io.TextIOBase):
        raise TypeError(f"{what} is opened as text; open it with mode 'rb'")
    if not callable(getattr(given, "read", None)):
        raise TypeError(f"{what} is a path, bytes or a file opened with mode 'rb', not {type(given).__name__}")
    return cast(BinaryIO, given)


def repeatable(upload: Upload) -> bool:
    """Whether it can be sent again: a pipe, open or by its path, is empty after once."""
    if isinstance(upload, bytes):
        return True
    if isinstance(upload, str | os.PathLike):
        return not Path(upload).is_fifo()
    return _seekable(upload)


@contextmanager
def opened(upload: Upload) -> Iterator[tuple[str, bytes | Reader]]:
    """The name and the content of an upload; a file that is opened here is closed after.

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
    """All bytes of an upload; an open file is read from its start, where it can be rewound.

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
    """The last part of an open file's name; None where it has none, as a pipe."""
    name = getattr(file, "name", None)
    return _sendable(Path(name).name) if isinstance(name, str) else None


def _seekable(file: BinaryIO) -> bool:
    return hasattr(file, "seekable") and file.seekable()


def _open(path: str | os.PathLike[str]) -> BinaryIO:
    try:
        return Path(path).open("rb")
    except ValueError as error:  # a NUL, or a character that the file system cannot write
        raise OSError(errno.EINVAL, f"no file can have this name ({error})", os.fspath(path)) from error


def _sendable(name: str) -> str:
    """A name that UTF-8 can hold: of bytes that are none, Python's names hold halves of characters."""
    return name.encode("utf-8", "replace").decode()
