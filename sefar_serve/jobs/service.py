"""Accepts batch jobs, runs them in order with `sefar_serve.extract`, and resumes them after a restart or a crash.

Each job has a folder for its clips and rows; its state is in the store. Rows are saved in whole shards, so the next
process resumes where this one stopped.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import re
import shutil
import sqlite3
import threading
import time
import uuid
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TextIO

from sefar_serve.clip import ClipLimits
from sefar_serve.decoding.pool import MEMORY
from sefar_serve.engine import Engine, Model
from sefar_serve.extract.clips import MixedModelError, OutputUnwritableError
from sefar_serve.extract.decoders import DecoderPool
from sefar_serve.extract.local import LocalBackend, clips_at_once
from sefar_serve.extract.manifests import NamedClip
from sefar_serve.extract.rows import RowOptions
from sefar_serve.extract.run import Progress, extract
from sefar_serve.extract.shards import model_sha256
from sefar_serve.jobs.errors import JobNotFinishedError, JobNotFoundError, JobsDirError, JobStorageError
from sefar_serve.jobs.intake import Intake, read_clips
from sefar_serve.jobs.remote import FetchingDecoders
from sefar_serve.jobs.results import ResultFormat, write_result
from sefar_serve.jobs.store import JobStore
from sefar_serve.pose import Estimators, check_sees_joints
from sefar_serve.quantity import quantity
from sefar_serve.schemas.jobs import Job, JobOptions
from sefar_serve.schemas.problem import ErrorBody, problem_of

log = logging.getLogger(__name__)

SHARD_ROWS = 128
"""Rows saved together. If the process dies, the rows of unfinished shards are lost and made again."""

PROGRESS_SECONDS = 0.5

STORE_SECONDS = 5.0
"""Pause between attempts to write to a full disk."""

EXPIRE_SECONDS = 60.0
"""Pause between searches for jobs whose retention is over."""

NICE = 10
"""Niceness of a job's decoders, so that requests go first."""

_ID = re.compile("job_[0-9a-f]{24}")

CLIPS, FEATURES, FETCHED = "clips.jsonl", "features", "fetched"


@dataclass(frozen=True)
class JobBounds:
    """Limits on jobs.

    Attributes:
        most: maximum number of jobs that are queued or running.
        at_once: maximum number of jobs that are running.
        workers: number of decode processes per job.
        max_batch: maximum number of clips per inference of the engine.
        limits: limits on each video.
        seconds: that decoding a clip may take.
        memory: bytes that decoding a clip may use.
        retention: seconds after which a job that has ended is deleted with its result; None keeps it.
    """

    most: int
    at_once: int
    workers: int
    max_batch: int
    limits: ClipLimits
    seconds: float = 60.0
    memory: int = MEMORY
    retention: float | None = None


class JobService:
    """The batch jobs of one gateway.

    Args:
        folder: folder for jobs. Created if missing, and locked by this process.
        engine: runs the model; the caller starts and closes it.
        intake: checks and stores the clips of jobs.
        bounds: limits on jobs.
        model_file: model file of the engine; None if a server runs the model.
        estimators: find the joints for models that see them.

    Attributes:
        store: state of each job.

    Raises:
        JobsDirError: another process uses the folder, or it cannot be used.
    """

    def __init__(
        self,
        folder: Path,
        engine: Engine,
        *,
        intake: Intake,
        bounds: JobBounds,
        model_file: Path | None,
        estimators: Estimators,
    ) -> None:
        self._folder = folder.absolute()
        self._engine = engine
        self._intake = intake
        self._bounds = bounds
        self._model_file = model_file
        self._estimators = estimators
        self._lock = _locked(self._folder)
        self.store = JobStore(self._folder / "jobs.sqlite")
        self._waiting = asyncio.Semaphore(0)
        self._workers: list[asyncio.Task[None]] = []
        self._running: dict[str, asyncio.Task[None]] = {}
        self._cancelled: set[str] = set()
        self._writing = threading.Lock()

    async def start(self) -> None:
        """Resume unfinished jobs, and remove what a killed process left behind."""
        await asyncio.to_thread(self._tidy)
        for _ in range(self.store.counts["queued"]):
            self._waiting.release()
        self._workers = [asyncio.create_task(self._work()) for _ in range(self._bounds.at_once)]
        if self._bounds.retention is not None:
            self._workers.append(asyncio.create_task(self._expire(self._bounds.retention)))

    def _tidy(self) -> None:
        self.store.requeue()
        known = self.store.ids()
        for left in self._folder.iterdir():
            if _ID.fullmatch(left.name) and left.name not in known:
                shutil.rmtree(left)
            elif (left / FETCHED).is_dir():  # its job may have been cancelled before it runs again
                shutil.rmtree(left / FETCHED)

    async def close(self) -> None:
        """Stop. Running jobs resume when the gateway is started again."""
        for task in (*self._workers, *self._running.values()):
            task.cancel()
        await asyncio.gather(*self._workers, *self._running.values(), return_exceptions=True)
        self.store.close()
        self._lock.close()

    async def submit(self, named: Iterable[NamedClip], options: JobOptions, key: str | None) -> Job:
        """Accept a job.

        Args:
            named: its clips, read in a thread.
            options: options of the job.
            key: idempotency key, with which the same request may be sent again; None if there is none.

        Returns:
            The job, or the job that was sent with the same key before.

        Raises:
            JobError: the job cannot be accepted.
            ModelNotFoundError: the engine has no such model.
            NoJointsError: poses are requested, and the model sees no joints.
            UrlNotAllowedError: the host of a clip's URL is not allowed.
            ExtractError: a clip or the manifest is malformed.
        """
        model = self._engine.model(options.model)
        if options.poses:
            check_sees_joints(model.metadata)
        taken = asyncio.create_task(asyncio.to_thread(self._submit, named, options, key, model))
        # Even if the client has gone, because the job is then in the store. Releasing without a job does no harm.
        taken.add_done_callback(lambda _: self._waiting.release())
        return await asyncio.shield(taken)

    def _submit(self, named: Iterable[NamedClip], options: JobOptions, key: str | None, model: Model) -> Job:
        try:
            return self._taken(named, options, key, model)
        except (OSError, sqlite3.OperationalError) as error:
            log.error("cannot accept jobs: %s", error)
            raise JobStorageError(
                "this gateway has no disk space for jobs; try again later, or ask its operator to free some"
            ) from error

    def _taken(self, named: Iterable[NamedClip], options: JobOptions, key: str | None, model: Model) -> Job:
        self.store.check_room(key, self._bounds.most)
        meta, id_ = model.metadata, f"job_{uuid.uuid4().hex[:24]}"
        folder = self._folder / id_
        folder.mkdir()
        kept = ""
        try:
            total, digest = self._intake.write(named, folder / CLIPS)
            job = Job(
                id=id_,
                status="queued",
                created=int(time.time()),
                total=total,
                model=meta.name,
                version=meta.version,
            )
            fingerprint = sha256(f"{options.model_dump_json()} {digest}".encode()).hexdigest()
            job = self.store.add(job, options, key=key, fingerprint=fingerprint, most=self._bounds.most)
            kept = job.id
        finally:
            if kept != id_:
                shutil.rmtree(folder)
        return job

    async def cancel(self, id_: str) -> Job:
        """Cancel a job, unless it has finished. Its rows so far can be downloaded.

        Raises:
            JobNotFoundError: no job has this id.
        """
        self._cancelled.add(id_)
        try:
            await asyncio.to_thread(self.store.cancel, id_)
            if (task := self._running.get(id_)) is not None:
                task.cancel()
                await asyncio.wait([task])
            return await asyncio.to_thread(self.store.get, id_)
        finally:
            self._cancelled.discard(id_)

    def delete(self, id_: str) -> None:
        """Delete a finished job and its rows. Blocks.

        Raises:
            JobNotFoundError: no job has this id.
            JobNotFinishedError: it is queued or running.
        """
        self.store.delete(id_)
        shutil.rmtree(self._folder / id_)

    def result(self, id_: str, kind: ResultFormat) -> Path:
        """Return a file with the rows of a finished job. Blocks.

        Raises:
            JobNotFoundError: no job has this id.
            JobNotFinishedError: it is queued or running.
            JobHasNoRowsError: it ended before any rows were saved.
        """
        job = self.store.get(id_)
        if job.finished is None:
            raise JobNotFinishedError(
                f"{id_} is {job.status}, {job.done} of {quantity(job.total, 'clip')} done; wait for it, or cancel it "
                "to get its rows so far"
            )
        file = self._folder / id_ / f"result.{kind}"
        with self._writing:
            if not file.exists():
                write_result(file.parent / FEATURES, file, kind)
        return file

    async def _expire(self, retention: float) -> None:
        """Delete jobs that ended long ago."""
        while True:
            try:
                expired = await asyncio.to_thread(self.store.ended_before, time.time() - retention)
                for id_ in expired:
                    await asyncio.to_thread(self.delete, id_)
                    log.info("deleted %s and its result, which ended more than %g h ago", id_, retention / 3600)
            except JobNotFoundError:  # its owner was faster
                continue
            except (OSError, sqlite3.Error) as error:
                log.warning("cannot delete expired jobs: %s", error)
            await asyncio.sleep(EXPIRE_SECONDS)

    async def _work(self) -> None:
        while True:
            await self._waiting.acquire()
            try:
                job = await asyncio.to_thread(self.store.claim)
            except sqlite3.Error:  # the disk is full
                log.exception("cannot write the job store; retrying in %g s", STORE_SECONDS)
                await asyncio.sleep(STORE_SECONDS)
                self._waiting.release()
                continue
            # Skip a job that was cancelled while it was queued, or between these two lines.
            if job is None or job.id in self._cancelled:
                continue
            task = self._running[job.id] = asyncio.create_task(self._run(job))
            try:
                await asyncio.wait([task])
            finally:
                if task.done():
                    del self._running[job.id]
                    if not task.cancelled() and (error := task.exception()) is not None:
                        log.error("%s did not finish. It resumes after a restart", job.id, exc_info=error)

    async def _run(self, job: Job) -> None:
        while True:
            try:
                error = await self._attempt(job)
                await asyncio.to_thread(self.store.finish, job.id, error)
            # A full disk does not fail the job: committed rows are kept, and the next attempt resumes.
            except (OutputUnwritableError, sqlite3.OperationalError) as full:
                log.warning("%s: retrying in %g s: %s", job.id, STORE_SECONDS, full)
                await asyncio.sleep(STORE_SECONDS)
            else:
                return

    async def _attempt(self, job: Job) -> ErrorBody | None:
        """Run a job; return why it failed, or None."""
        try:
            await self._extract(job)
        except (OutputUnwritableError, sqlite3.OperationalError):
            raise
        except MixedModelError as error:
            log.warning("%s failed: %s", job.id, error)
            message = "the gateway's model has changed since this job started; submit the job again"
            return ErrorBody(message=message, type="server_error", param=None, code=error.code)
        except Exception as error:
            log.warning("%s failed: %s", job.id, error)
            body = problem_of(error).body
            if body.code == "internal_error":
                body = body.model_copy(update={"message": f"Internal server error. Search the log for {job.id}"})
            return body
        log.info("%s is done", job.id)
        return None

    async def _extract(self, job: Job) -> None:
        folder = self._folder / job.id
        asked = await asyncio.to_thread(self.store.options, job.id)
        options = RowOptions(tokens=asked.tokens, poses=asked.poses, dtype=asked.dtype, top_k=asked.top_k)
        model = self._engine.model(f"{job.model}:{job.version}")
        async with self._backend(model, options, folder) as backend, _Reporter(self.store, job.id) as reporter:
            await extract(
                read_clips(folder / CLIPS),
                folder / FEATURES,
                backend,
                options,
                shard_rows=SHARD_ROWS,
                source=job.id,
                on_progress=reporter.take,
            )

    @asynccontextmanager
    async def _backend(self, model: Model, options: RowOptions, folder: Path) -> AsyncIterator[LocalBackend]:
        """The gateway's engine with separate decoders, so that a job's broken videos cannot harm other jobs."""
        file = self._model_file
        digest = None if file is None else await asyncio.to_thread(model_sha256, file)
        at_once = clips_at_once(self._bounds.max_batch, self._bounds.workers)
        async with AsyncExitStack() as stack:
            pool = await asyncio.to_thread(
                DecoderPool,
                model.metadata,
                workers=self._bounds.workers,
                slots=at_once,
                limits=self._bounds.limits,
                timeout=self._bounds.seconds,
                memory=self._bounds.memory,
                nice=NICE,
                estimators=self._estimators,
            )
            stack.push_async_callback(asyncio.to_thread, pool.__exit__, None, None, None)
            decoders = FetchingDecoders(pool, self._intake.fetcher, folder / FETCHED)
            stack.push_async_callback(asyncio.to_thread, decoders.close)
            yield LocalBackend(model, decoders, options, sha256=digest, at_once=at_once)


class _Reporter:
    """Saves the progress of a job in the store, periodically and at the end."""

    def __init__(self, store: JobStore, id_: str) -> None:
        self._store = store
        self._id = id_
        self._latest: Progress | None = None

    async def __aenter__(self) -> _Reporter:
        self._task = asyncio.create_task(self._periodically())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        await self._write()

    def take(self, progress: Progress) -> None:
        """Remember the latest progress."""
        self._latest = progress

    async def _periodically(self) -> None:
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            await self._write()

    async def _write(self) -> None:
        if (latest := self._latest) is not None:
            done = latest.skipped + latest.done
            try:
                await asyncio.to_thread(self._store.progress, self._id, done=done, failed=latest.failed)
            except sqlite3.OperationalError as error:  # the disk is full; the next write catches up
                log.warning("cannot save the progress of %s: %s", self._id, error)
                return
            if self._latest is latest:
                self._latest = None


def _locked(folder: Path) -> TextIO:
    """Create the jobs folder and lock it for this process.

    Raises:
        JobsDirError: it cannot be created or written to, or another process has locked it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise JobsDirError(f"{folder} cannot hold jobs ({error}); set SEFAR_JOBS_DIR to another folder") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        raise JobsDirError(
            f"another gateway uses {folder} for its jobs; stop it, or set SEFAR_JOBS_DIR to another folder"
        ) from error
    return lock
