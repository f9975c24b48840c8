"""What was found out about large files that were opened before, because many clips may be spans of one long video.

Reading all packets of a file takes as long as reading the file. It is done once for each file and process, as long as
the file does not change.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from sefar_serve.clip.limits import ClipLimits
from sefar_serve.clip.packets import PacketTable
from sefar_serve.clip.source import VideoSource
from sefar_serve.clip.timeline import Timeline

WORTHWHILE = 8 * 1024**2
"""Size in bytes from which a file is remembered. Smaller ones are read again in a few milliseconds."""

KEPT_PACKETS = 1_000_000
"""Packets that are remembered, of all files together: about 60 MB, and 11 hours of video at 25 frames per second."""


@dataclass(frozen=True)
class FileKey:
    """One state of a file, and the limits that it was checked against."""

    device: int
    inode: int
    size: int
    modified: int
    limits: ClipLimits


@dataclass(frozen=True)
class Remembered:
    """What a file holds."""

    table: PacketTable
    timeline: Timeline


_kept: dict[FileKey, Remembered] = {}
"""Least recently used first. Only atomic operations, because threads share it and processes may fork at any time."""


def file_key(source: VideoSource, limits: ClipLimits) -> FileKey | None:
    """The key of a source; None if it is not a file on disk, or too small."""
    if isinstance(source, FileIO):  # decode processes get open files
        found = os.fstat(source.fileno())
    elif isinstance(source, str | os.PathLike):
        try:
            found = Path(source).stat()
        except OSError:
            return None  # opening it says why
    else:
        return None
    if found.st_size < WORTHWHILE:
        return None
    return FileKey(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, limits)


def recall(key: FileKey | None) -> Remembered | None:
    """What is known of a file."""
    if key is None or (found := _kept.pop(key, None)) is None:
        return None
    _kept[key] = found
    return found


def remember(key: FileKey | None, found: Remembered) -> None:
    """Keep what is known of a file, and forget those that were not used for longest."""
    if key is None or len(found.table) > KEPT_PACKETS:
        return
    _kept.pop(key, None)
    _kept[key] = found
    # Another thread may change them between the steps: then one more or less is forgotten.
    with suppress(RuntimeError, StopIteration):
        while sum(len(one.table) for one in _kept.values()) > KEPT_PACKETS:
            _kept.pop(next(iter(_kept)), None)
