"""Reads list files, `path label` a line, as SeFAR's authors and many toolboxes publish them."""

from __future__ import annotations

from pathlib import Path

from sefar_serve.lists import UNKNOWN, ListFileError, read_list

from .found_videos import AmbiguousVideoError, Videos
from .rows import Problems, Row


def read_official(file: Path, videos: Videos, problems: Problems) -> list[Row]:
    """Read a list file; see `sefar_serve.lists.read_list`.

    Args:
        file: the list. A label that is missing or -1 means that the clip has none.
        videos: where the videos are.
        problems: gets what is wrong with the file; reading stops at the first wrong line.
    """
    try:
        entries = read_list(file, videos.root, unlabelled=True)
    except ListFileError as error:
        problems.add("", str(error).removeprefix(f"{file}, "))
        return []
    rows = []
    for number, entry in enumerate(entries, start=1):
        try:
            label = None if entry.label == UNKNOWN else str(entry.label)
            rows.append(Row(videos.find(entry.name), label, entry.start, entry.end))
        except AmbiguousVideoError as error:
            problems.add(f"clip {number}", str(error))
    return rows
