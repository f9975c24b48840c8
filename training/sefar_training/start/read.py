"""Reads a user's collection of videos: finds out what format it has, and gives one row for each clip."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from sefar_serve.segments import BACKGROUND

from .activitynet import is_activitynet, read_activitynet
from .cvat import is_cvat, read_cvat
from .fiftyone import is_fiftyone, read_fiftyone
from .folders import read_folders
from .found_videos import Videos
from .label_studio import is_label_studio, read_label_studio
from .official import read_official
from .rows import SPLITS, CollectionError, Problems, Row, RowProblem, Split, raise_problems
from .table import csv_delimiter, read_table, table_columns
from .via import is_via, read_via

Format = Literal["folders", "table", "list", "activitynet", "label-studio", "via", "cvat", "fiftyone"]
FORMATS: tuple[Format, ...] = get_args(Format)

_SUFFIXES = (".csv", ".tsv", ".txt", ".list", ".jsonl", ".ndjson", ".json", ".parquet", ".xml")
_NAMES = ("labels.txt", "classes.txt", "class_names.txt")
"""Files beside a table of class numbers whose line n names class n."""

_HEAD = 64 * 1024
_LIST_LINE = re.compile(r'.*\.\w{2,5}"?(?:[ \t,]+"?(?:-1|\d+)"?)?')


@dataclass(frozen=True)
class Collection:
    """The clips of a user.

    Attributes:
        root: folder that the clips' names are relative to.
        rows: the clips, in the order of the source.
        labels: names of the classes, in the order of their numbers.
        format: how the source was read.
        sources: the files that were read; the folder itself for folders.
        notes: what a user should know about how it was read.
    """

    root: Path
    rows: tuple[Row, ...]
    labels: tuple[str, ...]
    format: Format
    sources: tuple[Path, ...]
    notes: tuple[str, ...] = ()


def read_collection(place: Path, *, root: Path | None = None, format: Format | None = None) -> Collection:
    """Read a folder of videos, or a table or annotations of them.

    Args:
        place: the folder, or the file. In a folder, a table or annotations directly in it are used if there are any.
        root: folder of the videos; None for the folder, or that of the file.
        format: read it in this format; None to find out.

    Raises:
        FileNotFoundError: the place does not exist.
        CollectionError: the format is unknown, there are no clips, or rows are wrong; the message says which and why.
    """
    if not place.exists():
        raise FileNotFoundError(f"{place} does not exist; give a folder of videos, or a table of them")
    place = place.absolute()
    root = (root or (place if place.is_dir() else place.parent)).absolute()
    notes: list[str] = []
    if place.is_dir():
        files = {} if format == "folders" else _annotations(place, format)
        if not files:
            if format not in (None, "folders"):
                raise CollectionError(f"{place} has no file in the format {format}; name the file itself")
            return _collection(root, read_folders(place), "folders", (place,), notes)
        if format is None and next(root.rglob("*/*"), None):
            names = ", ".join(file.name for file in files)
            notes.append(f"clips are those of {names}; --format folders reads the folders instead")
    else:
        found = format or _format_of(place)
        if found is None:
            raise CollectionError(
                f"{place} has no format that we know ({', '.join(FORMATS)}); write a CSV file with the columns "
                "path,label, or choose one with --format"
            )
        if found == "folders":
            raise CollectionError(f"{place} is a file; --format folders needs a folder")
        files = {place: found}
    videos, problems, rows = Videos(root), list[RowProblem](), list[Row]()
    for file, kind in files.items():
        split = _split_of(file) if len(files) > 1 else None
        found_rows, wrong = _read_file(file, kind, videos)
        problems += wrong
        rows += [replace(row, split=split) for row in found_rows] if split else found_rows
    raise_problems(problems)
    rows, named = _named(rows, root, place if place.is_file() else None)
    notes += named
    [*kinds] = set(files.values())
    return _collection(root, rows, kinds[0], tuple(files), notes)


def _collection(
    root: Path, rows: Sequence[Row], kind: Format, sources: tuple[Path, ...], notes: Sequence[str]
) -> Collection:
    if not rows:
        raise CollectionError(f"{', '.join(map(str, sources))}: no clips; a table needs a line for each clip")
    rows = [
        replace(row, label=BACKGROUND) if row.label is not None and row.label.casefold() == BACKGROUND else row
        for row in rows
    ]
    labels = sorted({row.label for row in rows if row.label is not None}, key=_natural)
    return Collection(root, tuple(rows), tuple(labels), kind, sources, tuple(notes))


def _natural(label: str) -> tuple[tuple[int, int, str], ...]:
    """Sorts class 10 after class 9."""
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", label) if part)


def _annotations(folder: Path, format: Format | None) -> dict[Path, Format]:
    """The files of a folder that describe its clips, with their formats.

    Raises:
        CollectionError: there are several that do not belong together.
    """
    files = sorted(p for p in folder.iterdir() if p.is_file() and p.suffix.lower() in _SUFFIXES and p.name[0] != ".")
    found = {p: kind for p in files if p.name.lower() not in _NAMES and (kind := _format_of(p)) is not None}
    if format is not None:
        found = {p: kind for p, kind in found.items() if kind == format}
    parts = {p: kind for p, kind in found.items() if _split_of(p)}
    if len(parts) > 1 and len(set(parts.values())) == 1:
        return parts  # others are lists of everything, or of something else
    together = len(set(found.values())) == 1 and bool({"cvat", "fiftyone"} & set(found.values()))
    if len(found) > 1 and not together:
        names = ", ".join(f"{p.name} ({kind})" for p, kind in found.items())
        raise CollectionError(
            f"{folder} has several tables: {names}; name the one to read, {folder}/{next(iter(found)).name}"
        )
    return found


def _split_of(file: Path) -> Split | None:
    """What a list or table is for, by the beginning of its name."""
    return next((split for name, split in SPLITS.items() if file.stem.lower().startswith(name)), None)


def _format_of(file: Path) -> Format | None:
    suffix = file.suffix.lower()
    if suffix == ".parquet":
        return "table"
    if suffix in (".jsonl", ".ndjson"):
        return "table"
    try:
        if suffix == ".json":
            return _json_format(json.loads(file.read_text(encoding="utf-8-sig")))
        with file.open(encoding="utf-8-sig") as text:
            head = text.read(_HEAD)
    except (UnicodeDecodeError, ValueError):
        return None
    if suffix == ".xml":
        return "cvat" if is_cvat(head) else None
    if is_via(head):
        return "via"
    lines = [line.strip() for line in head.splitlines() if line.strip()]
    if not lines:
        return None
    if csv_delimiter(lines[0]) is not None and not _is_list_header(lines):
        return "table"
    return "list" if all(_LIST_LINE.fullmatch(line) for line in lines[1:10] or lines) else None


def _is_list_header(lines: Sequence[str]) -> bool:
    """Whether a list of `path label` lines, with spaces between, begins with a header."""
    return len(lines) > 1 and "," not in lines[1] and "\t" not in lines[1] and "," in lines[0]


def _json_format(data: Any) -> Format | None:
    if is_activitynet(data):
        return "activitynet"
    if is_label_studio(data):
        return "label-studio"
    if is_fiftyone(data):
        return "fiftyone"
    if isinstance(data, list) and data and isinstance(data[0], dict) and table_columns(data[0]):
        return "table"
    return None


def _read_file(file: Path, kind: Format, videos: Videos) -> tuple[list[Row], list[RowProblem]]:
    problems = Problems(file)
    if kind == "table":
        return read_table(file, videos, problems), problems.found
    if kind == "list":
        return read_official(file, videos, problems), problems.found
    if kind == "via":
        return read_via(file, problems, videos), problems.found
    if kind == "cvat":
        return read_cvat(file, videos, problems), problems.found
    try:
        data = json.loads(file.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise CollectionError(f"{file} is not JSON ({error}); export it again") from error
    readers = {
        "activitynet": (is_activitynet, read_activitynet),
        "label-studio": (is_label_studio, read_label_studio),
        "fiftyone": (is_fiftyone, read_fiftyone),
    }
    fits, read = readers[kind]
    if not fits(data):
        raise CollectionError(f"{file} is not in the format {kind}; leave out --format to find out which it has")
    return read(data, videos, problems), problems.found


def _named(rows: list[Row], root: Path, file: Path | None) -> tuple[list[Row], list[str]]:
    """Replace class numbers by names, if a file beside the table has them."""
    numbers = {row.label for row in rows if row.label is not None}
    if not numbers or not all(number.isdecimal() for number in numbers):
        return rows, []
    folders = dict.fromkeys([root, *([file.parent] if file else [])])
    names = next((folder / name for folder in folders for name in _NAMES if (folder / name).is_file()), None)
    if names is None:
        return rows, ["classes have numbers only; a file labels.txt beside the table, line n for class n, names them"]
    lines = [line.strip() for line in names.read_text(encoding="utf-8").splitlines()]
    beyond = sorted({int(number) for number in numbers if int(number) >= len(lines) or not lines[int(number)]})
    if beyond:
        raise CollectionError(
            f"{names} has no name for class {beyond[0]}: line 1 names class 0, and it has {len(lines)} lines"
        )
    return [replace(row, label=lines[int(row.label)]) if row.label else row for row in rows], []
