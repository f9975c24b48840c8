"""Videos that stay open between clips, because many clips may be spans of one long video."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sefar_serve.clip import ClipLimits, Video, span_indices
from sefar_serve.lists import ListEntry

LONG_VIDEOS = ClipLimits(max_bytes=4 * 1024**3)
"""Limits on files that clips are spans of. An open video takes as much memory as its file."""

KEPT_BYTES = 512 * 1024**2
"""Files that one thread keeps open, in bytes; the last one stays open whatever its size."""


class OpenVideos(threading.local):
    """Opens the videos of clips. Those that clips are spans of stay open, per thread, until others need the room."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Path, tuple[Video, int]] = OrderedDict()

    def __reduce__(self) -> tuple[type[OpenVideos], tuple[()]]:
        return OpenVideos, ()  # a worker process opens its own

    @contextmanager
    def open(self, entry: ListEntry) -> Iterator[tuple[Video, tuple[int, int]]]:
        """Open a clip.

        Yields:
            Its video, and the frames [first, past) that are the clip's.

        Raises:
            FileNotFoundError: the path does not exist.
            ClipError: the file is not a video, or the span is not inside it.
        """
        if not entry.is_span:
            with Video(entry.path) as video:
                yield video, (0, video.frame_count)
            return
        video = self._keep(entry.path)
        yield video, span_indices(video, entry.start, entry.end)

    def _keep(self, path: Path) -> Video:
        if path not in self._kept:
            self._kept[path] = Video(path, limits=LONG_VIDEOS), path.stat().st_size
        self._kept.move_to_end(path)
        while len(self._kept) > 1 and sum(size for _, size in self._kept.values()) > KEPT_BYTES:
            _, (oldest, _) = self._kept.popitem(last=False)
            oldest.close()
        return self._kept[path][0]
