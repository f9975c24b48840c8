"""List files: one clip a line, `path label`, as the authors published them and as people write them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

UNKNOWN = -1
"""Label of a clip whose class a list does not say."""

_LINE_END = re.compile(r"\r\n?|\n")
_HEADER = re.compile(
    r'"?(?:(?:video|clip|file)s?[ _]?)?(?:path|name|id|video|clip|file|filename)?s?"?[ \t,]+'
    r'"?(?:label|labels|label_id|class|class_id|target)"?',
    re.IGNORECASE,
)
_QUOTED = re.compile(r'"((?:[^"]|"")+)"(?:[ \t,]+"?(-1|[0-9]+)"?)?')
_PLAIN = re.compile(r"(.*?[^ \t,])[ \t,]+(-1|[0-9]+)")
_COUNTED = re.compile(r"\.(mp4|avi|mov|mkv|webm|mpe?g)[ \t,]+[0-9]+\Z", re.IGNORECASE)


class ListFileError(ValueError):
    """A list file has a line that is not `path label`; the message names file, line and mend."""


@dataclass(frozen=True)
class ListEntry:
    """One clip of a list.

    Attributes:
        name: the path as written in the list, with `/` between its parts.
        path: where the file is, after prefix replacement and joined to the root.
        label: class number; `UNKNOWN` where a list of unlabelled clips has none.
    """

    name: str
    path: Path
    label: int


def parse_list(text: str, source: str = "list", *, unlabelled: bool = False) -> list[tuple[str, int]]:
    """Read the lines of a list file.

    The label is the last field; spaces, tabs or a comma stand before it, so paths may contain spaces and commas. A path
    in double quotes is taken as CSV writers mean it. Blank lines, any kind of line end, a byte-order mark and
    a header (``path,label``) are allowed.

    Args:
        text: content of the file.
        source: its name, for error messages.
        unlabelled: lines may lack a label, or have -1; such clips get `UNKNOWN`.

    Returns:
        (path as written, label) for each clip, in order.

    Raises:
        ListFileError: naming the first line that has no path, no whole number as its last field, or a frame
            count between the two.
    """
    entries: list[tuple[str, int]] = []
    header_allowed = True
    for number, raw in enumerate(_LINE_END.split(text.removeprefix("\ufeff")), start=1):
        line = raw.strip(" \t")
        if not line:
            continue
        if header_allowed and _HEADER.fullmatch(line):
            header_allowed = False
            continue
        header_allowed = False
        path, label = _fields(line, unlabelled)
        if label is None and not unlabelled:
            raise ListFileError(
                f"{source}, line {number}: {line!r} is not `path label`, e.g. `videos/a.mp4 12`; "
                "a label is the number of a class, from 0"
            )
        if _COUNTED.search(path):
            raise ListFileError(
                f"{source}, line {number}: {line!r} has a number between path and label (a frame count?), which has to "
                "go: awk '{print $1, $NF}' keeps path and label where paths have no spaces"
            )
        entries.append((path, UNKNOWN if label is None else int(label)))
    return entries


def _fields(line: str, unlabelled: bool) -> tuple[str, str | None]:
    """Path and label of a line; no label where there is none, or none that is allowed."""
    quoted = _QUOTED.fullmatch(line)
    found = quoted or _PLAIN.fullmatch(line)
    if found is None:
        return line, None
    path, label = found.groups()
    if label == "-1" and not unlabelled:
        return line, None
    return path.replace('""', '"') if quoted else path, label


def read_list(
    path: Path, root: Path, remap: Mapping[str, str] | None = None, *, unlabelled: bool = False
) -> list[ListEntry]:
    """Read a list file and find its clips.

    Args:
        path: the list file, UTF-8.
        root: folder that relative clip paths are joined to.
        remap: prefix replacements, e.g. ``{"/root/video/": "videos/"}``; the longest that fits applies.
        unlabelled: lines may lack a label.

    Raises:
        ListFileError: if the file is not UTF-8, a line is malformed, or there is no clip in the list.
    """
    remap = remap or {}
    entries = []
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ListFileError(
            f"{path} is not UTF-8 text ({error.reason}, byte {error.start}); save it as UTF-8"
        ) from error
    for name, label in parse_list(text, str(path), unlabelled=unlabelled):
        # Lists written on Windows; a backslash beside slashes is part of a name.
        name = name if "/" in name else name.replace("\\", "/")
        prefix = max((p for p in remap if name.startswith(p)), key=len, default="")
        where = remap[prefix] + name[len(prefix) :] if prefix else name
        entries.append(ListEntry(name, root / where, label))
    if not entries:
        raise ListFileError(f"{path} lists no clips")
    return entries
