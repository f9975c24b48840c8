"""Manifests and list files: the clips that they name, one at a time, as they name them."""

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
"""Of the files that are taken as a manifest or a list."""

_VIDEO = frozenset({"path", "url"})
_COLUMNS = _VIDEO | {"start", "end", "id"}
_DELIMITERS = ",;\t"
_ROWS = 4096


@dataclass(frozen=True)
class NamedClip:
    """A clip as it is named.

    Attributes:
        name: path or URL, as written.
        start: seconds, 0 or more.
        end: seconds, after the start.
        id: of the clip, where one is given.
    """

    name: str
    start: float | None = None
    end: float | None = None
    id: str | None = None

    @property
    def clip_id(self) -> str:
        """The id that is given; else the name, with ``#t=start,end`` of a span (Media Fragments 1.0, 4.2.1)."""
        span = "" if self.start is self.end is None else f"#t={_short(self.start)},{_short(self.end)}".rstrip(",")
        return self.id or self.name + span


def _short(seconds: float | None) -> str:
    return "" if seconds is None else repr(seconds).removesuffix(".0")


def read_manifest(open_file: Callable[[], BinaryIO], name: str) -> Iterator[NamedClip]:
    """Read a manifest or a list file.

    CSV, JSON lines and Parquet have a column `path` or `url`, and `start`, `end` (seconds) and `id` if they like; other
    columns are not looked at. A CSV file without such a header, or a text file, is a list: `path label` a line.

    Args:
        open_file: opens it; called once or twice.
        name: of the file; its ending tells the kind, and messages begin with it.

    Raises:
        SourceError: naming the file, the line and the mend.
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
    # Line ends are kept: CSV fields may hold some.
    return io.TextIOWrapper(file, encoding="utf-8-sig", newline="")


def _delimiter(file: io.TextIOWrapper, name: str) -> str | None:
    """What stands between the columns of a manifest; None where the first line is not the header of one."""
    header = _decoded(file, name)
    first = next((line.strip() for line in header if line.strip()), "")
    for mark in _DELIMITERS:
        columns = set(_columns(first.split(mark)))
        if columns & _VIDEO:
            return mark
        if columns & _COLUMNS or _is_header(first.split(mark)):
            raise SourceError(f"{name} has no column path or url (it has {first}); rename the one with the videos")
    return None


def _is_header(fields: list[str]) -> bool:
    """Whether a line that is no manifest's header is another table's: a list has a path, and perhaps a number."""
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
                    raise SourceError(f"{where} has more fields than the header; put paths that hold commas in quotes")
                yield where, dict(zip(columns, fields, strict=False))
        except csv.Error as error:
            raise SourceError(f"{name}, line {rows.line_num}: {error}; is it a CSV file?") from error


def _json_rows(file: io.TextIOWrapper, name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    with file:
        for number, line in enumerate(_decoded(file, name), start=1):
            if not line.strip():
                continue
            where = f"{name}, line {number}"
            try:
                values = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise SourceError(f"{where} is not JSON ({error}); write one object a line") from error
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
                raise SourceError(f"{name} has no column path or url (it has {there}); rename the one with the videos")
            for batch in parquet.iter_batches(batch_size=_ROWS, columns=columns):
                for values in batch.to_pylist():
                    number += 1
                    yield f"{name}, row {number}", values
        except (pa.ArrowException, OSError) as error:
            raise SourceError(f"{name} cannot be read as Parquet ({error}); write it again") from error


def _list_clips(file: io.TextIOWrapper, name: str) -> Iterator[NamedClip]:
    file.reconfigure(newline=None)
    with file:
        try:
            for written, _ in parse_list(file, name, unlabelled=True):
                yield NamedClip(forward_slashes(written))
        except ListFileError as error:
            raise SourceError(str(error)) from error


def named_clip(values: Mapping[str, Any], where: str) -> NamedClip:
    """A clip from a row's columns.

    Args:
        values: `path` or `url`, and `start`, `end`, `id` if they are there.
        where: the row is, for error messages.

    Raises:
        SourceError: naming the place and the mend.
    """
    named = [values[column] for column in ("path", "url") if values.get(column) not in (None, "")]
    if len(named) != 1 or not isinstance(named[0], str):
        found = (
            "two videos, in path and in url" if len(named) > 1 else f"{named[0]!r} for a video" if named else "no video"
        )
        raise SourceError(f"{where} names {found}; a clip has one path (or url), as text")
    start, end = (_seconds(values.get(column), column, where) for column in ("start", "end"))
    if end is not None and end <= (start or 0.0):
        raise SourceError(f"{where}: the clip ends at {end:g} s, not after its start; end is a time, not a length")
    return NamedClip(named[0], start, end, _id(values.get("id"), where))


def _seconds(value: object, column: str, where: str) -> float | None:
    if value is None or value == "":
        return None
    try:
        # True is a number to Python, and means no time.
        seconds = float("text" if isinstance(value, bool) else value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        seconds = -1.0
    if math.isnan(seconds):
        return None
    if not 0 <= seconds < math.inf:
        raise SourceError(f"{where}: {column} is {value!r}; write seconds from 0, e.g. 12.5, or leave it empty")
    return seconds


def _id(value: object, where: str) -> str | None:
    if value is None or value == "":
        return None
    # Numbers from pandas become floats where a column has gaps.
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise SourceError(f"{where}: the id is {value!r}; write text or a whole number, or leave it empty")
    return str(value)
