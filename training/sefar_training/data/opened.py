"""Videos that stay open between clips, because many clips may be spans of one long video."""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sefar_serve.clip import ClipLimits, Video, span_indices
from sefar_serve.clip.packets import HELD
from sefar_serve.lists import ClipKey

LONG_VIDEOS = ClipLimits(max_bytes=sys.maxsize)
"""Limits on files that clips are spans of."""

KEPT_BYTES = 512 * 1024**2
"""Memory for the files that one thread keeps open; the last one stays open whatever it takes. A file takes as much as
its size, a large one `sefar_serve.clip.packets.HELD` at most."""

SPANS = 16
"""Spans of one file that are read before they are given back: the file is opened once for as many."""


def batches(clips: Sequence[ClipKey], spans: int = SPANS) -> list[list[int]]:
    """Group clips, so that a video is opened once for several of its spans.

    Args:
        clips: in any order.
        spans: most clips of a batch.

    Returns:
        Numbers of the clips, in batches of one file each, in order of time; clips that are whole files are alone.
    """
    by_file: dict[Path, list[int]] = {}
    for index, clip in enumerate(clips):
        by_file.setdefault(clip.path, []).append(index)
    found = []
    for indices in by_file.values():
        ordered = sorted(indices, key=lambda index: clips[index].start or 0.0)
        step = spans if any(clips[index].is_span for index in indices) else 1
        found += [ordered[first : first + step] for first in range(0, len(ordered), step)]
    return found


class OpenVideos(threading.local):
    """Opens the videos of clips. Those that clips are spans of stay open, per thread, until others need the room."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Path, tuple[Video, int]] = OrderedDict()

    def __reduce__(self) -> tuple[type[OpenVideos], tuple[()]]:
        return OpenVideos, ()  # a worker process opens its own

    @contextmanager
    def open(self, clip: ClipKey) -> Iterator[tuple[Video, tuple[int, int]]]:
        """Open a clip.

        Yields:
            Its video, and the frames [first, past) that are the clip's.

        Raises:
            FileNotFoundError: the path does not exist.
            ClipError: the file is not a video, or the span is not inside it.
        """
        if not clip.is_span:
            with Video(clip.path) as video:
                yield video, (0, video.frame_count)
            return
        video = self._keep(clip.path)
        yield video, span_indices(video, clip.start, clip.end)

    def _keep(self, path: Path) -> Video:
        if path not in self._kept:
            self._kept[path] = Video(path, limits=LONG_VIDEOS), min(path.stat().st_size, HELD)
        self._kept.move_to_end(path)
        while len(self._kept) > 1 and sum(size for _, size in self._kept.values()) > KEPT_BYTES:
            _, (oldest, _) = self._kept.popitem(last=False)
            oldest.close()
        return self._kept[path][0]
