"""Memory that two processes share. It has no name: it is gone once both have closed it, however they end."""

from __future__ import annotations

import errno
import fcntl
import io
import mmap
import os
import stat
import tempfile
from io import FileIO
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from sefar_serve.clip import VideoSource

SPOOL_BYTES = 1024**2
"""Bytes copied at a time from a file that has no file descriptor."""


def new_segment(size: int) -> int:
    """A file descriptor of so many zero bytes in memory; the caller closes it.

    Where the system allows it, the size is fixed: a process that made it smaller would crash the other one.

    Args:
        size: at least 1.
    """
    if not hasattr(os, "memfd_create"):  # macOS
        with tempfile.TemporaryFile() as file:
            file.truncate(size)
            return os.dup(file.fileno())
    fd = os.memfd_create("sefar-clip", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return fd


def seen(fd: int, size: int) -> NDArray[np.uint8]:
    """The bytes of a segment. The memory is released with the last array that uses it."""
    return np.frombuffer(mmap.mmap(fd, size), np.uint8)


def forget(memory: NDArray[np.uint8], begin: int, end: int) -> None:
    """Give whole pages of a segment back to the system; they are zero afterwards.

    Args:
        memory: from `seen`.
        begin: first byte that is not needed any more.
        end: first byte after those.
    """
    begin += -begin % mmap.PAGESIZE
    end -= end % mmap.PAGESIZE
    mapping = memory.base.obj if isinstance(memory.base, memoryview) else memory.base
    if end > begin and isinstance(mapping, mmap.mmap) and hasattr(mmap, "MADV_REMOVE"):
        mapping.madvise(mmap.MADV_REMOVE, begin, end - begin)


def content_fd(source: VideoSource) -> int:
    """A file descriptor from which another process can read a video; the caller closes it.

    A file is opened, or its descriptor duplicated; bytes, and files in memory, are copied into a segment.

    Raises:
        OSError: the file cannot be opened.
    """
    if isinstance(source, bytes):
        return _copied([source])
    if isinstance(source, str | os.PathLike):
        return _opened(Path(source))
    if (fd := _fd_of(source)) is not None:
        source.flush()
        return os.dup(fd)
    if source.seekable():
        source.seek(0)
    return _copied(iter(lambda: source.read(SPOOL_BYTES), b""))


def _opened(path: Path) -> int:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # opening a pipe would block
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return fd


def _fd_of(file: IO[bytes]) -> int | None:
    """The descriptor of a file on disk; None for one in memory or of another kind."""
    if getattr(file, "_rolled", True) is False:  # asking a spooled file for its descriptor would write it to disk
        return None
    # Only plain files: a compressed one has a descriptor too, of other bytes.
    raw = getattr(getattr(file, "_file", file), "raw", getattr(file, "_file", file))
    return raw.fileno() if isinstance(raw, FileIO) and raw.seekable() else None


def _copied(parts: object) -> int:
    fd = os.memfd_create("sefar-video", os.MFD_CLOEXEC) if hasattr(os, "memfd_create") else None
    with tempfile.TemporaryFile() if fd is None else os.fdopen(fd, "w+b", closefd=False) as file:
        for part in parts:  # type: ignore[attr-defined]
            file.write(part)
        file.flush()
        return os.dup(file.fileno()) if fd is None else fd


class NamedFile(FileIO):
    """A file by its descriptor, which stays open, that tells the name of the video: FFmpeg looks at its suffix."""

    def __init__(self, fd: int, name: str) -> None:
        super().__init__(fd, "rb", closefd=False)
        self.name = name

    def content(self) -> IO[bytes]:
        """All of it, in memory."""
        self.seek(0)
        file = _NamedBytes(self.readall())
        file.name = self.name
        return file


class _NamedBytes(io.BytesIO):
    name: str
