"""State of each job in SQLite, which survives a crash of the process.

Calls block, so the gateway makes them in threads; a lock lets in one at a time. A job's clips and rows are in its
folder, not here.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sefar_serve.jobs.errors import (
    IdempotencyKeyReusedError,
    JobNotFinishedError,
    JobNotFoundError,
    JobsDirError,
    JobsFullError,
)
from sefar_serve.schemas.jobs import Job, JobOptions
from sefar_serve.schemas.problem import ErrorBody

SCHEMA_VERSION = 1

_TABLES = f"""
BEGIN;
CREATE TABLE job (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT UNIQUE NOT NULL,
    status TEXT NOT NULL DEFAULT 'queued',
    created INTEGER NOT NULL,
    started INTEGER,
    finished INTEGER,
    total INTEGER NOT NULL,
    done INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    model TEXT NOT NULL,
    version TEXT NOT NULL,
    error TEXT,
    options TEXT NOT NULL,
    key TEXT UNIQUE,
    fingerprint TEXT NOT NULL
);
CREATE INDEX job_unfinished ON job (status, number) WHERE status IN ('queued', 'running');
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""

_UNFINISHED = "status IN ('queued', 'running')"
_FIELDS = "id, status, created, started, finished, total, done, failed, model, version, error"


class JobStore:
    """All jobs. Safe to call from several threads.

    Args:
        file: database file; created if missing.

    Attributes:
        counts: number of jobs that are `queued` and `running`; for metrics, read without a lock.

    Raises:
        JobsDirError: another version of sefar-serve made the file, or it is not a database.
    """

    def __init__(self, file: Path) -> None:
        self._lock = threading.Lock()
        # Transactions are explicit, so that a read and the write that depends on it are atomic.
        self._db = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
        try:
            self._prepare(file)
        except (sqlite3.DatabaseError, JobsDirError) as error:
            self._db.close()
            if isinstance(error, JobsDirError):
                raise
            raise JobsDirError(f"{file} cannot be used ({error}); set SEFAR_JOBS_DIR to another folder") from error
        self.counts = self._counted()

    def _prepare(self, file: Path) -> None:
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode = WAL")
        found = self._db.execute("PRAGMA user_version").fetchone()[0]
        if found == 0:
            self._db.executescript(_TABLES)
        elif found != SCHEMA_VERSION:
            raise JobsDirError(
                f"{file} has schema version {found}, but this version of sefar-serve reads {SCHEMA_VERSION}; set "
                "SEFAR_JOBS_DIR to another folder, or run the version that made the file"
            )

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._db.close()

    def check_room(self, key: str | None, most: int) -> None:
        """Check whether a job could be accepted now, before doing any work for it.

        Args:
            key: idempotency key sent with the job; a known one needs no room.
            most: maximum number of jobs that are queued or running.

        Raises:
            JobsFullError: `most` jobs are queued or running.
        """
        with self._changing() as db:
            self._check_room(db, key, most)

    @staticmethod
    def _check_room(db: sqlite3.Connection, key: str | None, most: int) -> None:
        known = key is not None and db.execute("SELECT 1 FROM job WHERE key = ?", (key,)).fetchone()
        unfinished = db.execute(f"SELECT count(*) FROM job WHERE {_UNFINISHED}").fetchone()[0]
        if not known and unfinished >= most:
            raise JobsFullError(f"{unfinished} jobs are queued or running, the limit of this server; try again later")

    def add(self, job: Job, options: JobOptions, *, key: str | None, fingerprint: str, most: int) -> Job:
        """Add a job, unless it was added before.

        Args:
            job: job with a new id.
            options: options of the job.
            key: idempotency key, with which the client may send the same request again; None if there is none.
            fingerprint: equal for equal requests.
            most: maximum number of jobs that are queued or running.

        Returns:
            The job, or the job that was sent with this key before.

        Raises:
            IdempotencyKeyReusedError: the key was sent with a different request before.
            JobsFullError: `most` jobs are queued or running.
        """
        with self._changing() as db:
            row = db.execute(f"SELECT fingerprint, {_FIELDS} FROM job WHERE key = ?", (key,)).fetchone()
            if row is not None:
                if row["fingerprint"] != fingerprint:
                    raise IdempotencyKeyReusedError(
                        f"the Idempotency-Key was already used for another job, {row['id']}; use a new key"
                    )
                return _job(row)
            self._check_room(db, key, most)
            db.execute(
                "INSERT INTO job (id, created, total, model, version, options, key, fingerprint) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(job.id, job.created, job.total, job.model, job.version),
                    *(options.model_dump_json(), key, fingerprint),
                ),
            )
            return self._get(db, job.id)

    def get(self, id_: str) -> Job:
        """Get a job.

        Raises:
            JobNotFoundError: no job has this id.
        """
        with self._lock:
            return self._get(self._db, id_)

    @staticmethod
    def _get(db: sqlite3.Connection, id_: str, param: str | None = None) -> Job:
        row = db.execute(f"SELECT {_FIELDS} FROM job WHERE id = ?", (id_,)).fetchone()
        if row is None:
            raise JobNotFoundError(id_, param)
        return _job(row)

    def options(self, id_: str) -> JobOptions:
        """Get the options of a job.

        Raises:
            JobNotFoundError: no job has this id.
        """
        with self._lock:
            row = self._db.execute("SELECT options FROM job WHERE id = ?", (id_,)).fetchone()
        if row is None:
            raise JobNotFoundError(id_)
        return JobOptions.model_validate_json(row["options"])

    def page(self, limit: int, after: str | None = None) -> tuple[list[Job], bool]:
        """List jobs, newest first.

        Args:
            limit: maximum number of jobs.
            after: id of the job before the first one; None starts with the newest.

        Returns:
            The jobs, and whether there are older ones.

        Raises:
            JobNotFoundError: no job has the id `after`.
        """
        with self._lock:
            if after is not None:
                self._get(self._db, after, "after")
            rows = self._db.execute(
                f"SELECT {_FIELDS} FROM job WHERE ?1 IS NULL OR number < (SELECT number FROM job WHERE id = ?1) "
                "ORDER BY number DESC LIMIT ?2",
                (after, limit + 1),
            ).fetchall()
        return [_job(row) for row in rows[:limit]], len(rows) > limit

    def ids(self) -> set[str]:
        """Ids of all jobs."""
        with self._lock:
            return {row["id"] for row in self._db.execute("SELECT id FROM job")}

    def ended_before(self, when: float) -> list[str]:
        """Ids of the jobs that ended before a time, in Unix seconds, oldest first."""
        with self._lock:
            rows = self._db.execute("SELECT id FROM job WHERE finished < ? ORDER BY finished", (when,)).fetchall()
        return [row["id"] for row in rows]

    def requeue(self) -> None:
        """Queue the jobs that were running when the process ended. They are the oldest, so they run next."""
        with self._changing() as db:
            db.execute("UPDATE job SET status = 'queued' WHERE status = 'running'")

    def claim(self) -> Job | None:
        """Take the oldest queued job and mark it as running; None if no job is queued."""
        with self._changing() as db:
            row = db.execute("SELECT id FROM job WHERE status = 'queued' ORDER BY number LIMIT 1").fetchone()
            if row is None:
                return None
            db.execute(
                "UPDATE job SET status = 'running', started = coalesce(started, ?) WHERE id = ?", (_now(), row["id"])
            )
            return self._get(db, row["id"])

    def progress(self, id_: str, *, done: int, failed: int) -> None:
        """Save the progress of a job.

        Args:
            id_: id of the job.
            done: number of clips processed.
            failed: number of those that failed.
        """
        with self._changing() as db:
            db.execute("UPDATE job SET done = ?, failed = ? WHERE id = ?", (done, failed, id_))

    def finish(self, id_: str, error: ErrorBody | None = None) -> None:
        """Mark a running job as completed or failed. A job that was cancelled meanwhile stays cancelled.

        Args:
            id_: id of the job.
            error: why it failed; None if it completed.
        """
        status, reason = ("completed", None) if error is None else ("failed", error.model_dump_json())
        with self._changing() as db:
            db.execute(
                "UPDATE job SET status = ?, error = ?, finished = ? WHERE id = ? AND status = 'running'",
                (status, reason, _now(), id_),
            )

    def cancel(self, id_: str) -> Job:
        """Mark a job as cancelled, unless it has finished.

        Raises:
            JobNotFoundError: no job has this id.
        """
        with self._changing() as db:
            db.execute(
                f"UPDATE job SET status = 'cancelled', finished = ? WHERE id = ? AND {_UNFINISHED}", (_now(), id_)
            )
            return self._get(db, id_)

    def delete(self, id_: str) -> None:
        """Delete a job and its idempotency key.

        Raises:
            JobNotFoundError: no job has this id.
            JobNotFinishedError: it is queued or running.
        """
        with self._changing() as db:
            job = self._get(db, id_)
            if job.finished is None:
                raise JobNotFinishedError(f"{id_} is {job.status}; cancel it first (POST /v1/jobs/{id_}/cancel)")
            db.execute("DELETE FROM job WHERE id = ?", (id_,))

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        """One transaction."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                self._db.rollback()
                raise
            self.counts = self._counted()

    def _counted(self) -> Mapping[str, int]:
        rows = self._db.execute(f"SELECT status, count(*) AS jobs FROM job WHERE {_UNFINISHED} GROUP BY status")
        return {"queued": 0, "running": 0} | {row["status"]: row["jobs"] for row in rows}


def _job(row: sqlite3.Row) -> Job:
    values: dict[str, Any] = {name: row[name] for name in _FIELDS.split(", ")}
    if values["error"] is not None:
        values["error"] = ErrorBody.model_validate_json(values["error"])
    return Job(**values)


def _now() -> int:
    return int(time.time())
