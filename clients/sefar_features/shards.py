"""The Parquet files of a folder, as they were when the folder was opened."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from .errors import FeaturesError

_NAME = re.compile(r"part-([0-9]{6,})\.parquet")


def shard_files(folder: Path) -> list[Path]:
    """The shards of a folder, in the order of their numbers."""
    numbered = [(int(found[1]), file) for file in folder.iterdir() if (found := _NAME.fullmatch(file.name))]
    return [file for _, file in sorted(numbered)]


class Shard:
    """A Parquet file as it is now. If it is replaced later, reading it fails.

    Args:
        file: path of the file.

    Attributes:
        file: path of the file.
        state: name, size in bytes, and modification time in nanoseconds.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.state = _state(file)

    @cached_property
    def good(self) -> NDArray[np.bool_]:
        """For each row, whether it is good, i.e. not an error.

        Raises:
            FeaturesError: as for `table`.
        """
        with self._opened() as opened:
            found: NDArray[np.bool_] = self._read(opened, ["error_code"])["error_code"].is_null().to_numpy()
        return found

    def names(self) -> list[str]:
        """Names of the columns.

        Raises:
            FeaturesError: as for `table`.
        """
        with self._opened() as opened:
            return list(opened.schema_arrow.names)

    def metadata(self) -> dict[bytes, bytes]:
        """Metadata of the schema.

        Raises:
            FeaturesError: as for `table`.
        """
        with self._opened() as opened:
            return dict(opened.schema_arrow.metadata or {})

    def table(self, columns: Sequence[str] | None, rows: NDArray[np.bool_]) -> pa.Table:
        """Read some rows.

        Args:
            columns: names of the columns to read; None for all.
            rows: for each row, whether to read it.

        Raises:
            FeaturesError: the file is damaged, lacks a column, is missing or was replaced.
        """
        with self._opened() as opened:
            found = self._read(opened, columns)
            return found if rows.all() else found.filter(pa.array(rows))

    def batches(self, columns: Sequence[str] | None, rows: NDArray[np.bool_], size: int) -> Iterator[pa.RecordBatch]:
        """Read some rows in batches.

        Args:
            columns: names of the columns to read; None for all.
            rows: for each row, whether to read it.
            size: maximum number of rows in a batch.

        Raises:
            FeaturesError: as for `table`.
        """
        with self._opened() as opened:
            begin = 0
            for batch in opened.iter_batches(size, columns=columns, use_threads=False):
                wanted = rows[begin : begin + batch.num_rows]
                begin += batch.num_rows
                if wanted.any():
                    yield batch if wanted.all() else batch.filter(pa.array(wanted))

    def _read(self, opened: pq.ParquetFile, columns: Sequence[str] | None) -> pa.Table:
        found = opened.read(columns=columns, use_threads=False)
        # Arrow silently leaves out columns that do not exist.
        missing = [name for name in columns or () if name not in found.column_names]
        if missing:
            raise FeaturesError(f"{self.file} is not from `sefar extract` (no column {missing[0]!r}); move it away")
        return found

    @contextmanager
    def _opened(self) -> Iterator[pq.ParquetFile]:
        try:
            with pq.ParquetFile(self.file) as opened:
                # An open file keeps its content even if it is replaced.
                self.check_unchanged()
                yield opened
        except (pa.ArrowException, OSError) as error:
            self.check_unchanged()
            raise FeaturesError(
                f"{self.file} cannot be read ({error}); if it is damaged, delete it and its other files, and run the "
                "same `sefar extract` again"
            ) from error

    def check_unchanged(self) -> None:
        """Check that the file is still the one that was opened.

        Raises:
            FeaturesError: it is missing or was replaced.
        """
        try:
            unchanged = _state(self.file) == self.state
        except FileNotFoundError:
            unchanged = False
        if not unchanged:
            raise FeaturesError(f"{self.file} has changed since {self.file.parent} was opened; open it again")


def _state(file: Path) -> tuple[str, int, int]:
    stat = file.stat()
    return file.name, stat.st_size, stat.st_mtime_ns
