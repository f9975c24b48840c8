"""Reads manifests and list files: yields clips one at a time, as they are named there."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from sefar_serve.extract.clips import SourceError
from sefar_serve.lists import ListFileError, forward_slashes, parse_list

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".txt", ".list")
"""Suffixes of files that are read as a manifest or a list."""

_VIDEO = frozenset({"path", "url"})
_COLUMNS = _VIDEO | {"start", "end", "id"}
_DELIMITERS = ",;\t"
_ROWS = 4096


@dataclass(frozen=True)
class NamedClip:
    """A clip as a manifest or a request names it.

    Attributes:
        name: path or URL, as written.
        start: start in seconds, 0 or more; None for the first frame.
        end: end in seconds, after the start; None for the last frame.
        id: explicit id of the clip; None if it has none.
    """

    name: str
    start: float | None = None
    end: float | None = None
    id: str | None = None

    @property
    def clip_id(self) -> str:
        """The explicit id, or else the name plus ``#t=start,end`` for a span (Media Fragments 1.0, 4.2.1)."""
        span = "" if self.start is self.end is None else f"#t={_short(self.start)},{_short(self.end)}".rstrip(",")
        return self.id or self.name + span


def _short(seconds: float | None) -> str:
    return "" if seconds is None else repr(seconds).removesuffix(".0")


def read_manifest(open_file: Callable[[], BinaryIO], name: str) -> Iterator[NamedClip]:
    """Read a manifest or a list file.

    CSV, JSON lines and Parquet manifests have a column `path` or `url`, and optionally `start`, `end` (seconds) and
    `id`. Other columns are ignored. A text file, or a CSV file without such a header, is a list with one `path label`
    per line.

    Args:
        open_file: opens the file; called once or twice.
        name: name of the file. Its suffix selects the format, and error messages start with it.

    Raises:
        SourceError: the file or a line is malformed. The message names the file, the line and the fix.
    """
    kind = name.lower()
    if kind.endswith(".parquet"):
        rows = _parquet_rows(open_file(), name)
    elif kind.endswith((".jsonl", ".ndjson")):
        rows = _json_rows(_text(open_file()), name)
    else:
        with _text(open_file()) as file:
            delimiter = _delimiter(file, name) if kind.endswith((".csv", ".tsv")) else None
        if delimiter is None:
            return _list_clips(_text(open_file()), name)
        rows = _csv_rows(_text(open_file()), name, delimiter)
    return (named_clip(values, where) for where, values in rows)


def _text(file: BinaryIO) -> io.TextIOWrapper:
    # Line endings are kept, because CSV fields may contain some.
    return io.TextIOWrapper(file, encoding="utf-8-sig", newline="")


def _delimiter(file: io.TextIOWrapper, name: str) -> str | None:
    """The delimiter of a manifest's columns, or None if the first line is not the header of a manifest."""
    header = _decoded(file, name)
    first = next((line.strip() for line in header if line.strip()), "")
    for mark in _DELIMITERS:
        columns = set(_columns(first.split(mark)))
        if columns & _VIDEO:
            return mark
        if columns & _COLUMNS or _is_header(first.split(mark)):
            raise SourceError(f"{name} has no column path or url (it has {first}); rename the video column")
    return None


def _is_header(fields: list[str]) -> bool:
    """Whether a line looks like the header of another table. A list line has a path, and perhaps a number."""
    return len(fields) > 1 and not any("." in field or "/" in field or field.strip().isdigit() for field in fields)


def _columns(header: Iterable[str]) -> list[str]:
    return [column.strip().strip('"').strip().casefold() for column in header]


def _decoded(file: io.TextIOWrapper, name: str) -> Iterator[str]:
    try:
        yield from file
    except UnicodeDecodeError as error:
        raise SourceError(f"{name} is not UTF-8 text ({error.reason}); save it as UTF-8") from error


def _csv_rows(file: io.TextIOWrapper, name: str, delimiter: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    with file:
        rows = csv.reader(_decoded(file, name), delimiter=delimiter, strict=True)
        filled = filter(None, rows)
        try:
            columns = _columns(next(filled))
            for fields in filled:
                where = f"{name}, line {rows.line_num}"
                if len(fields) > len(columns):
                    raise SourceError(f"{where} has more fields than the header; quote paths that contain commas")
                yield where, dict(zip(columns, fields, strict=False))
        except csv.Error as error:
            raise SourceError(f"{name}, line {rows.line_num}: {error}; check that it is a CSV file") from error


def _json_rows(file: io.TextIOWrapper, name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    with file:
        for number, line in enumerate(_decoded(file, name), start=1):
            if not line.strip():
                continue
            where = f"{name}, line {number}"
            try:
                values = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise SourceError(f"{where} is not JSON ({error}); write one object per line") from error
            if not isinstance(values, dict):
                raise SourceError(f'{where} is not a JSON object; write {{"path": "a.mp4"}}')
            yield where, values


def _parquet_rows(file: BinaryIO, name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    number = 0
    with file:
        try:
            parquet = pq.ParquetFile(file)
            columns = [column for column in parquet.schema_arrow.names if column in _COLUMNS]
            if not _VIDEO.intersection(columns):
                there = ", ".join(parquet.schema_arrow.names)
                raise SourceError(f"{name} has no column path or url (it has {there}); rename the video column")
            for batch in parquet.iter_batches(batch_size=_ROWS, columns=columns):
                for values in batch.to_pylist():
                    number += 1
                    yield f"{name}, row {number}", values
        except (pa.ArrowException, OSError) as error:
            raise SourceError(f"{name} cannot be read as Parquet ({error}); write the file again") from error


def _list_clips(file: io.TextIOWrapper, name: str) -> Iterator[NamedClip]:
    file.reconfigure(newline=None)
    with file:
        try:
            for written, _ in parse_list(file, name, unlabelled=True):
                yield NamedClip(forward_slashes(written))
        except ListFileError as error:
            raise SourceError(str(error)) from error


def named_clip(values: Mapping[str, Any], where: str) -> NamedClip:
    """Build a clip from the columns of a row.

    Args:
        values: `path` or `url`, and optionally `start`, `end` and `id`.
        where: location of the row, for error messages.

    Raises:
        SourceError: a value is missing or malformed. The message names the location and the fix.
    """
    named = [values[column] for column in ("path", "url") if values.get(column) not in (None, "")]
    if len(named) != 1 or not isinstance(named[0], str):
        found = (
            "both a path and a url" if len(named) > 1 else f"{named[0]!r} as its video" if named else "no path or url"
        )
        raise SourceError(f"{where} has {found}; give each clip one path or url, as text")
    start, end = (_seconds(values.get(column), column, where) for column in ("start", "end"))
    if end is not None and end <= (start or 0.0):
        raise SourceError(f"{where}: the clip ends at {end:g} s, not after its start; end is a time, not a duration")
    return NamedClip(named[0], start, end, _id(values.get("id"), where))


def _seconds(value: object, column: str, where: str) -> float | None:
    if value is None or value == "":
        return None
    try:
        # True is a number in Python, but not a time.
        seconds = float("text" if isinstance(value, bool) else value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        seconds = -1.0
    if math.isnan(seconds):
        return None
    if not 0 <= seconds < math.inf:
        raise SourceError(f"{where}: {column} is {value!r}; write seconds, 0 or more, e.g. 12.5, or leave it empty")
    return seconds


def _id(value: object, where: str) -> str | None:
    if value is None or value == "":
        return None
    # pandas writes integers as floats if the column has missing values.
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise SourceError(f"{where}: the id is {value!r}; write text or a whole number, or leave it empty")
    return str(value)
