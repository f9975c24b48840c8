"""The work of a run, in a temporary database on disk, so that memory stays flat for any number of clips.

Every run builds it again from the source and the existing shards, so it cannot contradict them.
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
"""Clips read or written per statement."""

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

# A clip named twice is processed once. One id for two clips is an error; `clash` keeps the second path.
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
        shard: number of the shard that their rows go to.
        clips: the clips, in the order of the source.
        replaces: whether their rows replace failed rows of an existing shard.
    """

    shard: int
    clips: Sequence[ClipRef]
    replaces: bool


class Plan:
    """The clips of a source, and which of them are done.

    Args:
        folder: folder with room for the database. Its file is unlinked at once, so a killed run leaves nothing behind.

    Raises:
        ExtractError: the database cannot be written there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        path = folder / ".plan"
        with self._translate_errors():
            path.unlink(missing_ok=True)
            # Filled in a thread and read on the event loop, never both at once. A run has its folder to itself, and
            # some network file systems have no locks.
            uri = f"file:{quote(str(path.absolute()))}?nolock=1"
            self._db = sqlite3.connect(uri, uri=True, check_same_thread=False)
            self._db.executescript(_TABLES)
            path.unlink()

    def add(self, clips: Iterable[ClipRef]) -> None:
        """Add the clips of a source, each once.

        Raises:
            ClipIdConflictError: two different clips have the same id.
        """
        iterator = iter(clips)
        while batch := list(islice(iterator, AT_ONCE)):
            with self._translate_errors():
                self._db.executemany(_ADD, ((c.id, c.path, c.start, c.end, c.cost) for c in batch))
        clash = self._db.execute("SELECT id, path, clash FROM clip WHERE clash IS NOT NULL LIMIT 1").fetchone()
        if clash is not None:
            name, path, other = clash
            where = f"{path} and {other}" if path != other else f"two spans of {path}"
            raise ClipIdConflictError(f"the id {name!r} is used for {where}; give each clip a unique id")

    def mark_done(self, shard: int, rows: Iterable[tuple[ClipRef, str | None]]) -> None:
        """Record the rows of a shard.

        Args:
            shard: number of the shard.
            rows: clip and error code of each row; the code is None if the clip did not fail.

        Raises:
            ExtractError: a clip has more than one row.
        """
        values = ((clip.id, clip.path, clip.start, clip.end, shard, code) for clip, code in rows)
        try:
            with self._translate_errors():
                self._db.executemany("INSERT INTO done VALUES (?, ?, ?, ?, ?, ?)", values)
        except sqlite3.IntegrityError as error:
            raise ExtractError(
                f"shard {shard} of {self._folder} has a clip that already has a row, in this or another shard. If the "
                "shard was copied there, move the copy away; otherwise use another --out"
            ) from error

    def check_same(self, *, moved: bool) -> None:
        """Check that the source still uses the ids that have a row for the same clips.

        Args:
            moved: whether the videos may have new paths.

        Raises:
            ClipIdConflictError: an id now belongs to another span of a video.
            ClipMovedError: an id now belongs to a video at another path, and `moved` is false.
        """
        where = "SELECT clip.id, done.path, clip.path FROM clip JOIN done USING (id) WHERE"
        span = self._db.execute(
            f"{where} clip.start IS NOT done.start OR clip.end IS NOT done.end ORDER BY position LIMIT 1"
        ).fetchone()
        if span is not None:
            raise ClipIdConflictError(
                f"{self._folder} has features of another span of {span[1]} under the id {span[0]!r}; give the clip a "
                "unique id, or use another --out"
            )
        other = None if moved else self._db.execute(f"{where} clip.path <> done.path ORDER BY position LIMIT 1")
        if other is not None and (found := other.fetchone()) is not None:
            raise ClipMovedError(
                f"{self._folder} has features of {found[1]} under the id {found[0]!r}, which now belongs to "
                f"{found[2]}; pass --moved if it is the same video, or use another --out"
            )

    @property
    def clips(self) -> int:
        """Number of clips in the source."""
        return self._count("SELECT count(*) FROM clip")

    @property
    def repeats(self) -> int:
        """How often the source repeats a clip."""
        return self._count("SELECT coalesce(sum(repeats), 0) FROM clip")

    @property
    def rows(self) -> int:
        """Number of rows in all shards, including rows of clips that are not in the source."""
        return self._count("SELECT count(*) FROM done")

    @property
    def failed_rows(self) -> int:
        """Number of those rows that are errors."""
        return self._count("SELECT count(error_code) FROM done")

    @property
    def done(self) -> int:
        """Number of clips in the source that have a row, including failed ones."""
        return self._count("SELECT count(*) FROM clip JOIN done USING (id)")

    @property
    def failures(self) -> Counter[str]:
        """Number of clips in the source whose row is an error, by error code."""
        query = "SELECT error_code, count(*) FROM clip JOIN done USING (id) WHERE error_code IS NOT NULL GROUP BY 1"
        return Counter(dict(self._db.execute(query).fetchall()))

    def chunks(self, size: int, *, retry_failed: bool) -> Iterator[Chunk]:
        """Yield the remaining work.

        Args:
            size: maximum number of clips in a new shard.
            retry_failed: whether to replace failed rows; their shards come first.
        """
        if retry_failed:
            shards = self._db.execute(
                "SELECT DISTINCT shard FROM done JOIN clip USING (id) WHERE error_code IS NOT NULL ORDER BY shard"
            )
            for (shard,) in shards.fetchall():
                where = "JOIN done USING (id) WHERE error_code IS NOT NULL AND shard = ?"
                yield Chunk(shard, list(self._select(where, shard)), replaces=True)
        # A killed run may leave gaps. Filling them first gives the same shards as an undisturbed run.
        taken = {shard for (shard,) in self._db.execute("SELECT DISTINCT shard FROM done")}
        free = (shard for shard in count() if shard not in taken)
        missing = self._select("LEFT JOIN done USING (id) WHERE done.id IS NULL")
        while clips := list(islice(missing, size)):
            yield Chunk(next(free), clips, replaces=False)

    def close(self) -> None:
        """Close and remove the database."""
        self._db.close()

    def _select(self, where: str, *values: object) -> Iterator[ClipRef]:
        query = f"SELECT clip.id, clip.path, clip.start, clip.end, cost FROM clip {where} ORDER BY position"
        for row in self._db.execute(query, values):
            yield ClipRef(*row)

    def _count(self, query: str) -> int:
        return int(self._db.execute(query).fetchone()[0])

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.OperationalError, OSError) as error:
            raise unwritable(self._folder, error) from error
