"""What a run has to do, in a temporary database on disk: memory stays flat however many clips there are.

Every run makes it anew from the source and from the shards that are there, so it cannot contradict them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path

from sefar_serve.extract.clips import ClipIdConflictError, ClipRef, ExtractError

AT_ONCE = 4096
"""Clips read or written by one statement."""

_TABLES = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE clip (
    position INTEGER PRIMARY KEY, id TEXT UNIQUE NOT NULL, path TEXT NOT NULL, start REAL, end REAL, cost INTEGER,
    repeats INTEGER NOT NULL DEFAULT 0, clash TEXT
);
CREATE TABLE done (id TEXT PRIMARY KEY, shard INTEGER NOT NULL, failed INTEGER NOT NULL) WITHOUT ROWID;
"""

# A clip named twice is looked at once; one id for two clips is a mistake, of which the second path is kept.
_ADD = """
INSERT INTO clip (id, path, start, end, cost) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET
    repeats = repeats + 1,
    clash = CASE WHEN path IS excluded.path AND start IS excluded.start AND end IS excluded.end
                 THEN clash ELSE coalesce(clash, excluded.path) END
"""


@dataclass(frozen=True)
class Chunk:
    """Clips that are committed together.

    Attributes:
        shard: number of the shard they go to.
        clips: in the order of the source.
        replaces: whether they take the place of failed rows of a shard that is there.
    """

    shard: int
    clips: Sequence[ClipRef]
    replaces: bool


class Plan:
    """The clips of a source, and which of them are done.

    Args:
        path: of the database; replaced if it is there, removed by `close`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.unlink(missing_ok=True)
        # Filled in a thread, read on the event loop; never by both at a time.
        self._db = sqlite3.connect(path, check_same_thread=False)
        self._db.executescript(_TABLES)

    def add(self, clips: Iterable[ClipRef]) -> None:
        """Take in the clips of a source, each once.

        Raises:
            ClipIdConflictError: one id stands for two different clips.
        """
        iterator = iter(clips)
        while batch := list(islice(iterator, AT_ONCE)):
            self._db.executemany(_ADD, ((c.id, c.path, c.start, c.end, c.cost) for c in batch))
        clash = self._db.execute("SELECT id, path, clash FROM clip WHERE clash IS NOT NULL LIMIT 1").fetchone()
        if clash is not None:
            name, path, other = clash
            where = f"{path} and {other}" if path != other else f"two spans of {path}"
            raise ClipIdConflictError(f"the id {name!r} stands for {where}; give each clip an id of its own")

    def mark_done(self, shard: int, rows: Iterable[tuple[str, bool]]) -> None:
        """Take in what a shard holds.

        Args:
            shard: its number.
            rows: id of each row, and whether it is an error.

        Raises:
            ExtractError: one of them is in another shard too.
        """
        try:
            self._db.executemany("INSERT INTO done VALUES (?, ?, ?)", ((id_, shard, failed) for id_, failed in rows))
        except sqlite3.IntegrityError as error:
            raise ExtractError(
                f"shard {shard} has a clip that it or another shard has already; was it copied there? "
                "Delete one of the two, or take another --out"
            ) from error

    @property
    def clips(self) -> int:
        """Clips of the source."""
        return self._count("SELECT count(*) FROM clip")

    @property
    def repeats(self) -> int:
        """How often the source names a clip that it has named before."""
        return self._count("SELECT coalesce(sum(repeats), 0) FROM clip")

    @property
    def rows(self) -> int:
        """Rows of all shards, also of clips that the source does not name."""
        return self._count("SELECT count(*) FROM done")

    @property
    def failed_rows(self) -> int:
        """How many of them are errors."""
        return self._count("SELECT count(*) FROM done WHERE failed")

    @property
    def done(self) -> int:
        """Clips of the source that have a row, failed ones included."""
        return self._count("SELECT count(*) FROM clip JOIN done USING (id)")

    @property
    def failed(self) -> int:
        """Clips of the source of which the row is an error."""
        return self._count("SELECT count(*) FROM clip JOIN done USING (id) WHERE failed")

    def chunks(self, size: int, *, retry_failed: bool) -> Iterator[Chunk]:
        """What is to do.

        Args:
            size: most clips in a new shard.
            retry_failed: whether failed rows are to be replaced; their shards come first.
        """
        if retry_failed:
            shards = self._db.execute(
                "SELECT DISTINCT shard FROM done JOIN clip USING (id) WHERE failed ORDER BY shard"
            )
            for (shard,) in shards.fetchall():
                where = "JOIN done USING (id) WHERE failed AND shard = ?"
                yield Chunk(shard, list(self._select(where, shard)), replaces=True)
        # A run that was killed may have left gaps. Filling them first gives the shards of one that was not.
        taken = {shard for (shard,) in self._db.execute("SELECT DISTINCT shard FROM done")}
        free = (shard for shard in count() if shard not in taken)
        missing = self._select("LEFT JOIN done USING (id) WHERE done.id IS NULL")
        while clips := list(islice(missing, size)):
            yield Chunk(next(free), clips, replaces=False)

    def close(self) -> None:
        """Remove the database."""
        self._db.close()
        self._path.unlink(missing_ok=True)

    def _select(self, where: str, *values: object) -> Iterator[ClipRef]:
        query = f"SELECT id, path, start, end, cost FROM clip {where} ORDER BY position"
        for row in self._db.execute(query, values):
            yield ClipRef(*row)

    def _count(self, query: str) -> int:
        return int(self._db.execute(query).fetchone()[0])
