"""Shared memory between the gateway and a server on the same machine: one region per request, reused afterwards.

A region is a file in /dev/shm that its owner keeps locked for as long as it lives. If a region is not locked, its
owner was killed (perhaps in another container), and the next process removes it.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import uuid
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FOLDER = Path("/dev/shm")
PREFIX = "sefar-"


class Region:
    """Shared memory of a fixed size.

    Args:
        size: bytes.

    Attributes:
        name: name of the region; ``/name`` is its POSIX key.
        size: bytes.

    Raises:
        OSError: /dev/shm has no room for it.
    """

    def __init__(self, size: int) -> None:
        self.name = f"{PREFIX}{uuid.uuid4().hex}"
        self.size = size
        self._path = FOLDER / self.name
        self._fd = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Allocate the pages now: on a full /dev/shm a later write would kill the process.
            os.posix_fallocate(self._fd, 0, size)
            self._memory = mmap.mmap(self._fd, size)
        except OSError:
            self._path.unlink()
            os.close(self._fd)
            raise

    def write(self, values: NDArray[Any], offset: int = 0) -> None:
        """Write an array at an offset in bytes."""
        np.frombuffer(self._memory, values.dtype, values.size, offset)[:] = values.ravel()

    def read(self, offset: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """A copy of the float32 array at an offset in bytes."""
        count = int(np.prod(shape))
        return np.frombuffer(self._memory, np.float32, count, offset).reshape(shape).copy()

    def remove(self) -> None:
        """Release the memory; it is freed when no other process has it mapped either."""
        self._path.unlink(missing_ok=True)
        self._memory.close()
        os.close(self._fd)


def abandoned() -> list[Path]:
    """Files of the regions whose owners are gone."""
    found = []
    for path in FOLDER.glob(f"{PREFIX}*"):
        try:
            fd = os.open(path, os.O_RDWR)
        except (FileNotFoundError, PermissionError):
            continue  # removed meanwhile, or another user's
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found.append(path)
        except BlockingIOError:
            continue  # in use
        finally:
            os.close(fd)
    return found
