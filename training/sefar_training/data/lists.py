"""List files: one clip a line, `path label`, as the authors published them and as people write them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


class ListFileError(ValueError):
    """A list file has a line that is not `path label`; the message names file and line."""


@dataclass(frozen=True)
class ListEntry:
    """One clip of a list.

    Attributes:
        name: the path as written in the list, with `/` between its parts.
        path: where the file is, after prefix replacement and joined to the root.
        label: class number.
    """

    name: str
    path: Path
    label: int


def parse_list(text: str, source: str = "list") -> list[tuple[str, int]]:
    """Read the lines of a list file.

    The label is the last field; a space, tab or comma stands before it, so paths may contain spaces.
    Blank lines, carriage returns and a byte-order mark are allowed.

    Args:
        text: content of the file.
        source: its name, for error messages.

    Returns:
        (path as written, label) for each clip, in order.

    Raises:
        ListFileError: naming the first line that has no path or no whole number as its last field.
    """
    entries = []
    for number, raw in enumerate(text.lstrip("\ufeff").split("\n"), start=1):
        line = raw.strip()
        if not line:
            continue
        head = line.rstrip("0123456789")
        path, label = head.rstrip(" \t,"), line[len(head) :]
        if not path or not label or path == head:
            raise ListFileError(f"{source}, line {number}: {line!r} is not `path label`, e.g. `videos/a.mp4 12`")
        entries.append((path, int(label)))
    return entries


def read_list(path: Path, root: Path, remap: Mapping[str, str] | None = None) -> list[ListEntry]:
    """Read a list file and find its clips.

    Args:
        path: the list file.
        root: folder that relative clip paths are joined to.
        remap: prefix replacements, e.g. ``{"/root/video/": "videos/"}``; the longest that fits applies.

    Raises:
        ListFileError: if a line is malformed or there is no clip in the list.
    """
    remap = remap or {}
    entries = []
    for name, label in parse_list(path.read_text(encoding="utf-8"), str(path)):
        prefix = max((p for p in remap if name.startswith(p)), key=len, default="")
        where = remap[prefix] + name[len(prefix) :] if prefix else name
        entries.append(ListEntry(name, root / where, label))
    if not entries:
        raise ListFileError(f"{path} lists no clips")
    return entries
