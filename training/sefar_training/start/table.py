"""Reads tables: CSV, TSV, JSON lines, JSON arrays and Parquet, with a row for each clip.

Only the column of the path is needed. Columns have the names that are usual, see `ALIASES`, in any case and order.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sefar_serve.optional import needs_extra

from .found_videos import AmbiguousVideoError, Videos
from .rows import SPLITS, CollectionError, Problems, Row, Split, checked_span, read_seconds

ALIASES: dict[str, tuple[str, ...]] = {
    "path": (
        *("path", "file", "filename", "file_name", "filepath", "file_path", "video", "video_path", "video_file"),
        *("video_name", "videoname", "video_id", "clip", "clip_path", "clip_name", "name", "url"),
    ),
    "label": (
        *("label", "labels", "class", "class_name", "classname", "class_id", "category", "action", "action_label"),
        *("target", "y", "label_id"),
    ),
    "start": ("start", "start_time", "start_sec", "start_seconds", "time_start", "t_start", "begin", "onset"),
    "end": ("end", "end_time", "end_sec", "end_seconds", "time_end", "t_end", "stop", "offset"),
    "group": (
        *("group", "group_id", "subject", "subject_id", "person", "person_id", "actor", "participant", "venue"),
        *("place", "scene", "session", "site", "camera", "source_video", "youtube_id"),
    ),
    "split": ("split", "subset", "set", "partition", "part", "fold_name"),
}
"""Names of each column, the first found is taken."""

_DELIMITERS = ",;\t|"


def table_columns(header: Iterable[str]) -> dict[str, str]:
    """Which columns of a table are used.

    Returns:
        The columns' names as written, by what they are used for. Without a path, nothing.
    """
    written: dict[str, str] = {}
    for column in header:
        written.setdefault(column.strip().strip('"').casefold().replace(" ", "_").replace("-", "_"), column)
    found = {
        use: next(written[name] for name in names if name in written)
        for use, names in ALIASES.items()
        if any(name in written for name in names)
    }
    return found if "path" in found else {}


def csv_delimiter(first_line: str) -> str | None:
    """The delimiter of a table's columns; None if the line is not the header of a table."""
    for mark in _DELIMITERS:
        fields = first_line.removeprefix("\ufeff").strip().split(mark)
        if table_columns(fields) and (len(fields) > 1 or mark == ","):
            return mark
    return None


def read_table(file: Path, videos: Videos, problems: Problems) -> list[Row]:
    """Read a table.

    Args:
        file: ``.csv``, ``.tsv``, ``.txt``, ``.jsonl``, ``.ndjson``, ``.json`` or ``.parquet``.
        videos: where the videos are.
        problems: gets what is wrong with rows.

    Raises:
        ModuleNotFoundError: Parquet needs the extra `batch`.
    """
    rows = []
    for where, values in _records(file, problems):
        columns = table_columns(values)
        if not columns:
            problems.add(where, f"no column with the path of the video (it has {', '.join(map(str, values))})")
            break
        row = _row({use: values[column] for use, column in columns.items()}, where, videos, problems)
        if row is not None:
            rows.append(row)
    return rows


def _row(values: Mapping[str, Any], where: str, videos: Videos, problems: Problems) -> Row | None:
    path = values.get("path")
    if not isinstance(path, str) or not path.strip():
        problems.add(where, f"the path is {path!r}; write the video's path, relative to {videos.root}")
        return None
    try:
        start, end = (read_seconds(values.get(column), column) for column in ("start", "end"))
        checked_span(start, end)
        return Row(
            videos.find(path), read_label(values.get("label")), start, end, _text(values.get("group")),
            read_split(values.get("split")),
        )  # fmt: skip
    except (ValueError, AmbiguousVideoError) as error:
        problems.add(where, str(error))
        return None


def read_label(value: object) -> str | None:
    """A class's name; numbers become text, and empty values and -1 mean that there is none.

    Raises:
        ValueError: it is a list, an object or a fraction.
    """
    text = _text(value)
    if isinstance(value, bool | list | dict) or (isinstance(value, float) and text and "." in text):
        raise ValueError(f"the label is {value!r}; write one class name or number")
    return None if text == "-1" else text


def read_split(value: object) -> Split | None:
    """What a clip is for.

    Raises:
        ValueError: the split has another name.
    """
    text = _text(value)
    if text is None:
        return None
    split = SPLITS.get(text.lower())
    if split is None:
        raise ValueError(f"the split is {value!r}; write train, val, test or unlabelled, or leave it empty")
    return split


def _text(value: object) -> str | None:
    if value is None or value != value:  # not a number: pandas writes empty cells so
        return None
    # pandas writes integers as floats if the column has empty cells
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip() or None


def check_header(file: Path) -> None:
    """Check that a CSV table has lines and a column with the path.

    Raises:
        CollectionError: it is empty, or has no such column.
    """
    try:
        with file.open(encoding="utf-8-sig") as text:
            header = next((line for line in text if line.strip()), "")
    except UnicodeDecodeError:
        return
    if not header:
        raise CollectionError(f"{file} is empty; write a line `path,label`, then a line for each clip")
    mark = max(_DELIMITERS, key=header.count)
    columns = [name.strip().strip('"') for name in header.split(mark)]
    if not table_columns(columns):
        raise CollectionError(
            f"{file}: no column with the path of the video (it has {', '.join(columns)}); name the column `path`"
        )


def _records(file: Path, problems: Problems) -> Iterator[tuple[str, Mapping[str, Any]]]:
    suffix = file.suffix.lower()
    if suffix == ".parquet":
        return _parquet(file, problems)
    if suffix in (".jsonl", ".ndjson", ".json"):
        return _json(file, problems, lines=suffix != ".json")
    return _csv(file, problems)


def _csv(file: Path, problems: Problems) -> Iterator[tuple[str, Mapping[str, Any]]]:
    with file.open(encoding="utf-8-sig", newline="") as text:
        try:
            header = next((line for line in text if line.strip()), "")
            text.seek(0)
            rows = csv.reader(text, delimiter=csv_delimiter(header) or ",", strict=True)
            filled = (fields for fields in rows if any(field.strip() for field in fields))
            columns = next(filled)
            for fields in filled:
                where = f"line {rows.line_num}"
                if len(fields) > len(columns):
                    problems.add(where, f"{len(fields)} fields, but {len(columns)} columns; quote paths with commas")
                    continue
                yield where, dict(zip(columns, fields + [""] * (len(columns) - len(fields)), strict=True))
        except (csv.Error, UnicodeDecodeError) as error:
            problems.add("", f"{error}; save it as CSV in UTF-8")


def _json(file: Path, problems: Problems, *, lines: bool) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        text = file.read_text(encoding="utf-8-sig")
        parts = [(f"line {n}", line) for n, line in enumerate(text.split("\n"), start=1)] if lines else []
        found = [(f"entry {n}", values) for n, values in enumerate(json.loads(text), start=1)] if not lines else []
    except (UnicodeDecodeError, ValueError) as error:
        problems.add("", f"{error}; write JSON in UTF-8")
        return
    for where, line in parts:
        if line.strip():
            try:
                found.append((where, json.loads(line)))
            except ValueError as error:
                problems.add(where, f"not JSON ({error}); write one object per line")
    for where, values in found:
        if isinstance(values, dict):
            yield where, values
        else:
            problems.add(where, 'not an object; write {"path": "a.mp4", "label": "jump"}')


def _parquet(file: Path, problems: Problems) -> Iterator[tuple[str, Mapping[str, Any]]]:
    with needs_extra("batch"):
        import pyarrow as pa
        import pyarrow.parquet as pq
    try:
        columns = table_columns(pq.read_schema(file).names)
        table = pq.read_table(file, columns=list(columns.values()) or None)
    except (pa.ArrowException, OSError) as error:
        problems.add("", f"cannot be read as Parquet ({error}); write the file again")
        return
    for number, values in enumerate(table.to_pylist(), start=1):
        yield f"row {number}", values
