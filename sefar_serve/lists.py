"""List files with one clip per line, `path label`: those that SeFAR's authors published, and your own.

A list whose first line is ``path,label,start,end`` is a CSV file of spans: clips that are parts of longer videos.
"""

from __future__ import annotations

import csv
import math
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from sefar_serve.errors import SefarError

UNKNOWN = -1
"""Label of a clip that has none in its list."""

SPAN_COLUMNS = ("path", "label", "start", "end")
"""First line of a list of spans; `start` and `end` are seconds, empty for those of the video."""

_HEADER = re.compile(
    r'"?(?:(?:video|clip|file)s?[ _]?)?(?:path|name|id|video|clip|file|filename)?s?"?[ \t,]+'
    r'"?(?:label|labels|label_id|class|class_id|target)"?',
    re.IGNORECASE,
)
_QUOTED = re.compile(r'"((?:[^"]|"")+)"(?:[ \t,]+"?(-1|[0-9]+)"?)?')
_PLAIN = re.compile(r"(.*?[^ \t,])[ \t,]+(-1|[0-9]+)")
_BARE = re.compile(r"[\w./-]*[^\W\d]\w*")
_COUNTED = re.compile(
    r"\.(mp4|m4v|avi|mov|mkv|webm|mpe?g|wmv|flv|ts|3gp|gif)(?:[ \t,]+[0-9]+(?:\.[0-9]+)?)+\Z", re.IGNORECASE
)


class ClipKey(NamedTuple):
    """What tells a clip from others. ``ClipKey(path)`` is a whole file.

    Attributes:
        path: location of the file.
        start: where the clip begins, in seconds since the first frame; None for the first frame.
        end: where the clip ends, in seconds since the first frame; None for the end of the video.
    """

    path: Path
    start: float | None = None
    end: float | None = None

    @property
    def is_span(self) -> bool:
        """Whether the clip is a part of its file."""
        return not (self.start is self.end is None)

    def __str__(self) -> str:
        """The path, with the span if it has one, e.g. ``a.mp4#t=3,5.5`` (Media Fragments 1.0, 4.2.1)."""
        if not self.is_span:
            return str(self.path)
        start, end = (f"{bound:.3f}".rstrip("0").rstrip(".") for bound in (self.start or 0.0, self.end or 0.0))
        return f"{self.path}#t={start}" + ("" if self.end is None else f",{end}")


class ListFileError(SefarError, ValueError):
    """The list file has a line that is not `path label`."""

    status = 400
    code = "invalid_list"


@dataclass(frozen=True)
class ListEntry:
    """One clip of a list.

    Attributes:
        name: the path as written in the list, with `/` between its parts.
        path: location of the file: the name after prefix replacement, joined to the root.
        label: class number; `UNKNOWN` if a list of unlabelled clips has none.
        start: where the clip begins, in seconds since the first frame; None for the first frame.
        end: where the clip ends, in seconds since the first frame; None for the end of the video.
    """

    name: str
    path: Path
    label: int
    start: float | None = None
    end: float | None = None

    @property
    def clip(self) -> ClipKey:
        """What tells this clip from others: its file and its span."""
        return ClipKey(self.path, self.start, self.end)

    @property
    def is_span(self) -> bool:
        """Whether the clip is a part of its file."""
        return self.clip.is_span

    def overlaps(self, other: ListEntry) -> bool:
        """Whether this clip and another one of the same file have a moment in common."""
        ends = [math.inf if entry.end is None else entry.end for entry in (self, other)]
        return (self.start or 0.0) < ends[1] and (other.start or 0.0) < ends[0]


def parse_list(lines: Iterable[str], source: str = "list", *, unlabelled: bool = False) -> Iterator[tuple[str, int]]:
    """Read the lines of a list file, one at a time.

    The label is the last field, after spaces, tabs or a comma, so paths may contain spaces and commas. A path
    in double quotes is read by CSV's rules. Blank lines, a byte-order mark and a header (``path,label``) are
    allowed.

    Args:
        lines: lines of the file, as text.
        source: the file's name, for error messages.
        unlabelled: accept lines without a label or with -1; such clips get `UNKNOWN`.

    Yields:
        (path as written, label) for each clip, in order.

    Raises:
        ListFileError: a line has no path, no whole number as its last field, or numbers between the two
            (the message names the first such line); or the text is not UTF-8.
    """
    header_allowed = True
    try:
        for number, raw in enumerate(lines, start=1):
            line = (raw.removeprefix("\ufeff") if number == 1 else raw).strip(" \t\n")
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
                    "a label is a class number, starting at 0"
                )
            if _COUNTED.search(path):
                raise ListFileError(
                    f"{source}, line {number}: {line!r} has numbers between path and label (a frame count?). "
                    "Remove them; if no path contains spaces: awk '{print $1, $NF}'"
                )
            yield path, UNKNOWN if label is None else int(label)
    except UnicodeDecodeError as error:
        raise ListFileError(
            f"{source} is not UTF-8 text ({error.reason}, byte {error.start}); save it as UTF-8"
        ) from error


def _fields(line: str, unlabelled: bool) -> tuple[str, str | None]:
    """Path and label of a line; the label is None if it is missing or not allowed."""
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
        remap: prefix replacements, e.g. ``{"/root/video/": "videos/"}``; the longest matching prefix applies.
        unlabelled: accept lines without a label or with -1.

    Raises:
        ListFileError: if the file is not UTF-8, a line is malformed, or there is no clip in the list.
    """
    with path.open(encoding="utf-8") as lines:
        try:
            spans = tuple(lines.readline().removeprefix("\ufeff").strip().split(",")) == SPAN_COLUMNS
        except UnicodeDecodeError:
            spans = False  # reading the lines reports it
    if spans:
        entries = list(_read_spans(path, root, remap or {}, unlabelled))
    else:
        with path.open(encoding="utf-8") as lines:
            entries = [
                ListEntry(name, existing(root / replaced_prefix(name, remap or {})), label)
                for written, label in parse_list(lines, str(path), unlabelled=unlabelled)
                for name in [forward_slashes(written)]
            ]
    if not entries:
        raise ListFileError(f"{path} lists no clips; write one clip per line, `path label`")
    return entries


def _read_spans(path: Path, root: Path, remap: Mapping[str, str], unlabelled: bool) -> Iterator[ListEntry]:
    with path.open(encoding="utf-8-sig", newline="") as lines:
        rows = csv.reader(lines, strict=True)
        try:
            next(rows)
            for fields in filter(None, rows):
                where = f"{path}, line {rows.line_num}"
                try:
                    written, label, *bounds = fields
                    start, end = (float(bound) if bound.strip() else None for bound in bounds)
                    number = int(label) if label.strip() or not unlabelled else UNKNOWN
                except ValueError:
                    raise ListFileError(
                        f"{where}: {','.join(fields)!r} is not `path,label,start,end`, e.g. `a.mp4,3,12.5,14`; a label "
                        "is a class number, starting at 0, and times are seconds"
                    ) from None
                if number < (UNKNOWN if unlabelled else 0):
                    raise ListFileError(f"{where}: the label is {number}; labels are class numbers, starting at 0")
                if not 0 <= (start or 0.0) < (math.inf if end is None else end) or end == math.inf:
                    raise ListFileError(f"{where}: the span {start}–{end} s is invalid; give 0 <= start < end")
                name = forward_slashes(written)
                yield ListEntry(name, existing(root / replaced_prefix(name, remap)), number, start, end)
        except (csv.Error, UnicodeDecodeError) as error:
            raise ListFileError(f"{path}, line {rows.line_num}: {error}; save the list as CSV in UTF-8") from error


def write_list(path: Path, entries: Sequence[ListEntry]) -> None:
    """Write a list that `read_list` reads back: with spans if there are any, else with `path,label` lines.

    Args:
        path: replaced if it exists.
        entries: the clips; their names are written, and an empty label for those that have none.
    """
    spans = any(entry.is_span for entry in entries)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if spans:
            writer.writerow(SPAN_COLUMNS)
            for entry in entries:
                writer.writerow(
                    [entry.name, "" if entry.label == UNKNOWN else entry.label]
                    + ["" if bound is None else repr(bound) for bound in (entry.start, entry.end)]
                )
        else:
            for entry in entries:
                quoted = entry.name.replace('"', '""')
                name = entry.name if _BARE.fullmatch(entry.name) else f'"{quoted}"'
                file.write(f"{name}\n" if entry.label == UNKNOWN else f"{name},{entry.label}\n")


def forward_slashes(name: str) -> str:
    """Replace backslashes, for lists written on Windows. In a path that has slashes, a backslash is part of a name."""
    return name if "/" in name else name.replace("\\", "/")


def existing(path: Path) -> Path:
    """Find a file whose name on disk has another Unicode form, e.g. "é" as the letter "e" and an accent.

    Archives made on macOS have such names (NFD); most editors and programs write the other form (NFC).

    Args:
        path: as written.

    Returns:
        The path of the file on disk; the path as written if it exists, or if none does.
    """
    if str(path).isascii() or _exists(path):
        return path
    found = Path(path.anchor)
    for part in path.relative_to(path.anchor).parts:
        forms = (part, unicodedata.normalize("NFC", part), unicodedata.normalize("NFD", part))
        there = next((found / form for form in forms if _exists(found / form)), None)
        if there is None:
            return path
        found = there
    return found


def _exists(path: Path) -> bool:
    return os.path.exists(path)  # noqa: PTH110  (unlike pathlib's, False for names that are too long)


def replaced_prefix(name: str, remap: Mapping[str, str]) -> str:
    """Replace the longest matching prefix.

    Args:
        name: path as written in a list.
        remap: prefix replacements.
    """
    prefix = max((p for p in remap if name.startswith(p)), key=len, default="")
    return remap[prefix] + name[len(prefix) :] if prefix else name
