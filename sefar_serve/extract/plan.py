"""What a run has to do, in a temporary database on disk: memory stays flat however many clips there are.

Every run makes it anew from the source and from the shards that are there, so it cannot contradict them.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from urllib.parse import quote

from sefar_serve.extract.clips import ClipIdConflictError, ClipMovedError, ClipRef, ExtractError, unwritable

AT_ONCE = 4096
"""Clips read or written by one statement."""

_TABLES = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE clip (
    position INTEGER PRIMARY KEY, id TEXT UNIQUE NOT NULL, path TEXT NOT NULL, start REAL, end REAL, cost INTEGER,
    repeats INTEGER NOT NULL DEFAULT 0, clash TEXT
);
CREATE TABLE done (
    id TEXT PRIMARY KEY, path TEXT NOT NULL, start REAL, end REAL, shard INTEGER NOT NULL, error_code TEXT
) WITHOUT ROWID;
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
        folder: where there is room for its database, which has no name there: no kill leaves it behind.

    Raises:
        ExtractError: it cannot be written there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        path = folder / ".plan"
        with self._in_words():
            path.unlink(missing_ok=True)
            # Filled in a thread, read on the event loop; never by both at a time. A run has its folder to itself, and
            # network file systems do not all know locks.
            uri = f"file:{quote(str(path.absolute()))}?nolock=1"
            self._db = sqlite3.connect(uri, uri=True, check_same_thread=False)
            self._db.executescript(_TABLES)
            path.unlink()

    def add(self, clips: Iterable[ClipRef]) -> None:
        """Take in the clips of a source, each once.

        Raises:
            ClipIdConflictError: one id stands for two different clips.
        """
        iterator = iter(clips)
        while batch := list(islice(iterator, AT_ONCE)):
            with self._in_words():
                self._db.executemany(_ADD, ((c.id, c.path, c.start, c.end, c.cost) for c in batch))
        clash = self._db.execute("SELECT id, path, clash FROM clip WHERE clash IS NOT NULL LIMIT 1").fetchone()
        if clash is not None:
            name, path, other = clash
            where = f"{path} and {other}" if path != other else f"two spans of {path}"
            raise ClipIdConflictError(f"the id {name!r} stands for {where}; give each clip an id of its own")

    def mark_done(self, shard: int, rows: Iterable[tuple[ClipRef, str | None]]) -> None:
        """Take in what a shard holds.

        Args:
            shard: its number.
            rows: the clip of each row, and its error code if it is an error.

        Raises:
            ExtractError: one of them is in another shard too.
        """
        values = ((clip.id, clip.path, clip.start, clip.end, shard, code) for clip, code in rows)
        try:
            with self._in_words():
                self._db.executemany("INSERT INTO done VALUES (?, ?, ?, ?, ?, ?)", values)
        except sqlite3.IntegrityError as error:
            raise ExtractError(
                f"shard {shard} of {self._folder} has a clip that it or another shard has already; was it copied "
                "there? Move one of the two away, or take another --out"
            ) from error

    def check_same(self, *, moved: bool) -> None:
        """See whether the ids that are done stand for the clips of the source.

        Args:
            moved: whether the same videos may lie elsewhere now.

        Raises:
            ClipIdConflictError: one stands for another span of a video.
            ClipMovedError: one stands for a video of another path, and `moved` is false.
        """
        where = "SELECT clip.id, done.path, clip.path FROM clip JOIN done USING (id) WHERE"
        span = self._db.execute(
            f"{where} clip.start IS NOT done.start OR clip.end IS NOT done.end ORDER BY position LIMIT 1"
        ).fetchone()
        if span is not None:
            raise ClipIdConflictError(
                f"{self._folder} has features of another span of {span[1]} under the id {span[0]!r}; give the clip an "
                "id of its own, or take another --out"
            )
        other = None if moved else self._db.execute(f"{where} clip.path <> done.path ORDER BY position LIMIT 1")
        if other is not None and (found := other.fetchone()) is not None:
            raise ClipMovedError(
                f"{self._folder} has features of {found[1]} under the id {found[0]!r}, which is now that of "
                f"{found[2]}; take another --out, or say --moved if it is the same video"
            )

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
        return self._count("SELECT count(error_code) FROM done")

    @property
    def done(self) -> int:
        """Clips of the source that have a row, failed ones included."""
        return self._count("SELECT count(*) FROM clip JOIN done USING (id)")

    @property
    def failures(self) -> Counter[str]:
        """Clips of the source of which the row is an error, by error code."""
        query = "SELECT error_code, count(*) FROM clip JOIN done USING (id) WHERE error_code IS NOT NULL GROUP BY 1"
        return Counter(dict(self._db.execute(query).fetchall()))

    def chunks(self, size: int, *, retry_failed: bool) -> Iterator[Chunk]:
        """What is to do.

        Args:
            size: most clips in a new shard.
            retry_failed: whether failed rows are to be replaced; their shards come first.
        """
        if retry_failed:
            shards = self._db.execute(
                "SELECT DISTINCT shard FROM done JOIN clip USING (id) WHERE error_code IS NOT NULL ORDER BY shard"
            )
            for (shard,) in shards.fetchall():
                where = "JOIN done USING (id) WHERE error_code IS NOT NULL AND shard = ?"
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

    def _select(self, where: str, *values: object) -> Iterator[ClipRef]:
        query = f"SELECT clip.id, clip.path, clip.start, clip.end, cost FROM clip {where} ORDER BY position"
        for row in self._db.execute(query, values):
            yield ClipRef(*row)

    def _count(self, query: str) -> int:
        return int(self._db.execute(query).fetchone()[0])

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.OperationalError, OSError) as error:
            raise unwritable(self._folder, error) from error
