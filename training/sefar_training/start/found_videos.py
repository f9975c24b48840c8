"""Finds the videos that a collection names, under its folder."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
from numpy.typing import NDArray

from sefar_serve.clip import VIDEO_SUFFIXES, ClipError, Video
from sefar_serve.lists import existing, forward_slashes

_UPLOADED = re.compile(r"[0-9a-f]{8}-(.+)")
"""Label Studio puts eight hexadecimal digits before the name of an uploaded file."""


def videos_under(root: Path) -> Iterator[str]:
    """Names of the videos in a folder and below it, sorted, relative to it, with `/`; hidden ones are skipped."""
    for folder, below, files in os.walk(root, followlinks=True):
        below[:] = sorted(name for name in below if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and name.lower().endswith(VIDEO_SUFFIXES):
                yield (Path(folder) / name).relative_to(root).as_posix()


def _comparable(name: str) -> str:
    """A file name without differences of case and of Unicode form."""
    return unicodedata.normalize("NFC", name).casefold()


class AmbiguousVideoError(ValueError):
    """Several videos have the name that a row gives."""


class Videos:
    """The videos under a folder.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._times: dict[str, tuple[NDArray[np.float64], float] | None] = {}

    @cached_property
    def _by_file_name(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name in videos_under(self.root):
            file = name.rpartition("/")[2]
            for known in {file, file.rpartition(".")[0]}:
                found.setdefault(_comparable(known), []).append(name)
        return found

    def find(self, written: str) -> str:
        """Find a video by path, URL or file name, with or without suffix.

        A path is tried as written, relative to the folder or absolute. If it does not exist, a file of the same name
        anywhere in the folder is taken: annotation tools write paths of their own servers.

        Returns:
            The video's name, relative to the folder. If there is none, the path as written.

        Raises:
            AmbiguousVideoError: several files have that name.
        """
        path = _plain(written)
        if (self.root / path).is_file():
            return path
        if not path.startswith("/") and (found_file := existing(self.root / path)).is_file():
            return found_file.relative_to(self.root).as_posix()
        file = path.rpartition("/")[2]
        uploaded = _UPLOADED.fullmatch(file)
        for name in (file, f"v_{file}", *([uploaded[1]] if uploaded else [])):
            found = self._by_file_name.get(_comparable(name), [])
            if len(found) > 1:
                raise AmbiguousVideoError(
                    f"{written} is not in {self.root}, and several files have its name: {', '.join(found[:3])}; write "
                    "paths relative to the folder"
                )
            if found:
                return found[0]
        return path

    def seconds(self, name: str, frame: int) -> float | None:
        """When a frame is shown.

        Args:
            name: the video.
            frame: number of the frame, from 0; that of the last frame plus 1, or more, is the end.

        Returns:
            Seconds since the first frame; None if the video cannot be read.
        """
        if name not in self._times:
            try:
                with Video(self.root / name) as video:
                    self._times[name] = video.times, video.duration
            except (ClipError, OSError):
                self._times[name] = None
        found = self._times[name]
        if found is None:
            return None
        times, duration = found
        return duration if frame >= len(times) else float(times[max(frame, 0)])


def _plain(written: str) -> str:
    """A path without the parts that servers add."""
    text = forward_slashes(written.strip())
    if "://" not in text and "/local-files/" not in text:
        return text.removeprefix("./")
    split = urlsplit(text)
    if split.path.endswith("/local-files/"):  # Label Studio's local storage
        return parse_qs(split.query).get("d", [text])[0]
    if split.scheme in ("http", "https", "s3", "gs", "file"):
        return unquote(split.path).lstrip("/") if split.scheme != "file" else unquote(split.path)
    return text.removeprefix("./")
