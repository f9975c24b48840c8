"""Looks at every file: whether the frames that training needs decode, its size, and two small pictures of each clip.

What was found is kept beside the videos, or where the user says, so that the next look takes seconds.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from sefar_serve.atomic import atomic_file
from sefar_serve.clip import ClipError, Video, span_indices
from sefar_serve.clip.load import segments_of
from sefar_serve.cores import available_cores
from sefar_serve.sampling import sample_indices

from ..data.joint_cache import STORED
from ..data.opened import LONG_VIDEOS
from .rows import Row

HEIGHT, WIDTH = 48, 64
"""Size of the pictures that are kept of each clip, whatever its shape."""

SEGMENTS = 8
"""A picture whose frame does not decode may be of another frame of the same eighth of its clip."""

VERSION = "2"
"""Changes when what is kept does."""


@dataclass(frozen=True)
class FileFacts:
    """What a file is.

    Attributes:
        duration: seconds.
        fps: frames per second, on average.
        frames: number of frames.
        width: of the upright video, in pixels.
        height: of the upright video, in pixels.
        codec: e.g. ``h264``.
    """

    duration: float
    fps: float
    frames: int
    width: int
    height: int
    codec: str


@dataclass(frozen=True)
class ClipLook:
    """What was seen of a clip.

    Attributes:
        file: what its file is; None if it cannot be opened.
        reason: why it cannot be used; None if it can.
        damaged: frames that were looked at do not decode; others near them replace them.
        frames: number of frames of the clip.
        seconds: its length.
        first: uint8 (48,64,3), its first frame, squeezed.
        middle: uint8 (48,64,3), its middle frame, squeezed.
    """

    file: FileFacts | None
    reason: str | None = None
    damaged: bool = False
    frames: int = 0
    seconds: float = 0.0
    first: NDArray[np.uint8] | None = None
    middle: NDArray[np.uint8] | None = None


def look_at(
    root: Path, rows: Sequence[Row], cache: Path | None = None, *, threads: int | None = None, progress: bool = True
) -> list[ClipLook]:
    """Look at clips. Each file is opened once, and its clips are read in order of time.

    Args:
        root: folder that the clips' names are relative to.
        rows: the clips.
        cache: folder for what was found about each file; a file that has not changed is not opened again. None: nothing
            is kept.
        threads: files looked at at the same time; None for one per core.
        progress: show a progress bar.

    Returns:
        What was seen of each clip. Broken and missing ones have a reason.
    """
    by_file: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        by_file.setdefault(row.name, []).append(index)
    looks: list[ClipLook | None] = [None] * len(rows)

    def one(item: tuple[str, list[int]]) -> tuple[list[int], list[ClipLook]]:
        name, indices = item
        return indices, _looks(root / name, name, [(rows[i].start, rows[i].end) for i in indices], cache)

    # Threads: decoding does not hold the interpreter's lock.
    with ThreadPoolExecutor(threads or available_cores(), thread_name_prefix="sefar-look") as pool:
        done = tqdm(pool.map(one, by_file.items()), "looking", len(by_file), unit="file", disable=not progress)
        for indices, found in done:
            for index, look in zip(indices, found, strict=True):
                looks[index] = look
    return [look for look in looks if look is not None]


Span = tuple[float | None, float | None]


def _looks(path: Path, name: str, spans: list[Span], cache: Path | None) -> list[ClipLook]:
    try:
        stat = path.stat()
    except OSError:
        return [ClipLook(None, "the file does not exist")] * len(spans)
    told = json.dumps([VERSION, name, stat.st_size, stat.st_mtime_ns, spans])
    kept = None if cache is None else cache / f"{hashlib.sha256(told.encode()).hexdigest()[:24]}.npz"
    if kept is not None and (found := _load(kept, len(spans))) is not None:
        return found
    looks = _open(path, spans)
    if kept is not None:
        _save(kept, looks)
    return looks


def _open(path: Path, spans: list[Span]) -> list[ClipLook]:
    try:
        with Video(path, name="the file", limits=LONG_VIDEOS) as video:
            facts = FileFacts(
                video.duration, video.average_rate, video.frame_count, video.width, video.height, video.codec
            )
            ordered = sorted(range(len(spans)), key=lambda i: spans[i][0] or 0.0)
            found = {i: _clip(video, facts, *spans[i]) for i in ordered}
            return [found[i] for i in range(len(spans))]
    except (ClipError, OSError) as error:
        return [ClipLook(None, str(error))] * len(spans)


def _clip(video: Video, facts: FileFacts, start: float | None, end: float | None) -> ClipLook:
    try:
        first, past = span_indices(video, start, end)
        shown = np.array([first, (first + past) // 2], np.int64)
        # The frames whose joints are found: no training or evaluation needs more of a damaged clip.
        needed = first + np.unique(sample_indices(past - first, STORED))
        within = [segments_of(shown, (first, past), SEGMENTS), segments_of(needed, (first, past), len(needed))]
        read = video.read(np.concatenate([shown, needed]), HEIGHT, within=np.concatenate(within))
    except ClipError as error:
        return ClipLook(facts, str(error))
    begin = float(video.times[first])
    finish = float(video.times[past]) if past < len(video.times) else video.duration
    pictures = [cv2.resize(read.pixels[i], (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA) for i in (0, 1)]
    damaged = bool(read.warnings or read.corrupt)
    return ClipLook(facts, None, damaged, past - first, finish - begin, *(np.asarray(p, np.uint8) for p in pictures))


def _save(file: Path, looks: Sequence[ClipLook]) -> None:
    facts = looks[0].file
    told = json.dumps(
        [
            None if facts is None else asdict(facts),
            [[look.reason, look.damaged, look.frames, look.seconds] for look in looks],
        ]
    )
    empty = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pictures = [[empty if p is None else p for p in (look.first, look.middle)] for look in looks]
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(file) as new, new.open("wb") as stream:
        np.savez_compressed(stream, told=np.array(told), pictures=np.array(pictures))


def _load(file: Path, count: int) -> list[ClipLook] | None:
    """What was kept about a file; None if there is nothing, or it is damaged."""
    try:
        with np.load(file, allow_pickle=False) as saved:
            facts, clips = json.loads(str(saved["told"]))
            pictures = saved["pictures"]
    except (OSError, zipfile.BadZipFile, KeyError, ValueError, EOFError):
        return None
    about = None if facts is None else FileFacts(**facts)
    return [
        ClipLook(about, reason, damaged, frames, seconds, *([None, None] if reason else pictures[i]))
        for i, (reason, damaged, frames, seconds) in enumerate(clips)
    ][:count]


def same_bytes(root: Path, names: Sequence[str]) -> list[list[str]]:
    """Find copies among files.

    Args:
        root: folder that the names are relative to.
        names: the files; those that do not exist are skipped.

    Returns:
        Files that have the same bytes, two or more each.
    """
    by_size: dict[int, list[str]] = {}
    for name in dict.fromkeys(names):
        if (root / name).is_file():
            by_size.setdefault((root / name).stat().st_size, []).append(name)
    by_bytes: dict[tuple[int, str], list[str]] = {}
    for size, same in by_size.items():
        for name in same if len(same) > 1 else ():
            with (root / name).open("rb") as file:
                by_bytes.setdefault((size, hashlib.file_digest(file, "blake2b").hexdigest()), []).append(name)
    return [found for found in by_bytes.values() if len(found) > 1]


def cache_folder(root: Path, out: Path) -> Path:
    """Where to keep what was found: ``.sefar/look`` beside the videos, or in the run's folder if that is read-only."""
    place = root / ".sefar"
    writable = os.access(place if place.exists() else root, os.W_OK)
    return (place if writable else out.parent / ".sefar") / "look"


def pictures_of(looks: Sequence[ClipLook]) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """The pictures of usable clips."""
    for look in looks:
        if look.first is None or look.middle is None:
            raise ValueError("a clip that cannot be used has no pictures")
        yield look.first, look.middle
