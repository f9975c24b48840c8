"""Batch jobs: taken, done one after the other by `sefar_serve.extract`, and continued after any end of the process.

A job's clips and rows lie in a folder of its own; how far it is, in the store. Rows are saved in whole shards, so the
next process goes on where this one was.
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
from sefar_serve.engine import Engine, Model
from sefar_serve.extract.clips import MixedModelError, OutputUnwritableError
from sefar_serve.extract.decoders import DecoderPool
from sefar_serve.extract.local import LocalBackend, clips_at_once
from sefar_serve.extract.manifests import NamedClip
from sefar_serve.extract.rows import RowOptions
from sefar_serve.extract.run import Progress, extract
from sefar_serve.extract.shards import model_sha256
from sefar_serve.jobs.errors import JobNotFinishedError, JobsDirError, JobStorageError
from sefar_serve.jobs.intake import Intake, read_clips
from sefar_serve.jobs.remote import FetchingDecoders
from sefar_serve.jobs.results import ResultFormat, write_result
from sefar_serve.jobs.store import JobStore
from sefar_serve.schemas.jobs import Job, JobOptions
from sefar_serve.schemas.problem import ErrorBody, problem_of

log = logging.getLogger(__name__)

SHARD_ROWS = 128
"""Rows saved together; as many are lost at most when the process ends, and made again."""

PROGRESS_SECONDS = 0.5

STORE_SECONDS = 5.0
"""Between tries to write to a disk that is full."""

NICE = 10
"""By how much a job's decoders let requests go first."""

_ID = re.compile("job_[0-9a-f]{24}")

CLIPS, FEATURES, FETCHED = "clips.jsonl", "features", "fetched"


@dataclass(frozen=True)
class JobBounds:
    """How much jobs may take.

    Attributes:
        most: jobs that may wait and run.
        at_once: jobs that run at a time.
        workers: decode processes of each.
        max_batch: most clips in one inference of the engine.
        limits: on each video.
    """

    most: int
    at_once: int
    workers: int
    max_batch: int
    limits: ClipLimits


class JobService:
    """The jobs of one gateway.

    Args:
        folder: where they are kept; made if it is not there, and this process's alone.
        engine: looks at the clips; started and closed by others.
        intake: which clips a job may have.
        bounds: see `JobBounds`.
        model_file: of the engine; None where a server runs it.

    Attributes:
        store: what is known of each job.

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
    ) -> None:
        self._folder = folder.absolute()
        self._engine = engine
        self._intake = intake
        self._bounds = bounds
        self._model_file = model_file
        self._lock = _locked(self._folder)
        self.store = JobStore(self._folder / "jobs.sqlite")
        self._waiting = asyncio.Semaphore(0)
        self._workers: list[asyncio.Task[None]] = []
        self._running: dict[str, asyncio.Task[None]] = {}
        self._cancelled: set[str] = set()
        self._writing = threading.Lock()

    async def start(self) -> None:
        """Go on with what is not done; remove what a process left behind that was killed."""
        await asyncio.to_thread(self._tidy)
        for _ in range(self.store.counts["queued"]):
            self._waiting.release()
        self._workers = [asyncio.create_task(self._work()) for _ in range(self._bounds.at_once)]

    def _tidy(self) -> None:
        self.store.requeue()
        known = self.store.ids()
        for left in self._folder.iterdir():
            if _ID.fullmatch(left.name) and left.name not in known:
                shutil.rmtree(left)

    async def close(self) -> None:
        """Stop; jobs that run go on when the gateway is started again."""
        for task in (*self._workers, *self._running.values()):
            task.cancel()
        await asyncio.gather(*self._workers, *self._running.values(), return_exceptions=True)
        self.store.close()
        self._lock.close()

    async def submit(self, named: Iterable[NamedClip], options: JobOptions, key: str | None) -> Job:
        """Take a job.

        Args:
            named: its clips, read in a thread.
            options: of the job.
            key: under which the same request may be sent again; None for none.

        Returns:
            The job, or that which was sent with the same key before.

        Raises:
            JobError: one of its kinds.
            ModelNotFoundError: the engine has no such model.
            UrlNotAllowedError: a clip is of a host that the operator does not allow.
            ExtractError: a clip or the manifest is malformed.
        """
        model = self._engine.model(options.model)
        taken = asyncio.create_task(asyncio.to_thread(self._submit, named, options, key, model))
        # Also where the sender has gone meanwhile: the job is in the store then. A place without a job does no harm.
        taken.add_done_callback(lambda _: self._waiting.release())
        return await asyncio.shield(taken)

    def _submit(self, named: Iterable[NamedClip], options: JobOptions, key: str | None, model: Model) -> Job:
        try:
            return self._taken(named, options, key, model)
        except (OSError, sqlite3.OperationalError) as error:
            log.error("no job can be taken: %s", error)
            raise JobStorageError(
                "this gateway has no room for jobs now; send the job again later, or have its operator make room"
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
        """End a job; one that has ended stays as it is, and what it has done can be downloaded.

        Raises:
            JobNotFoundError: there is none of this id.
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
        """Forget a job that has ended, and remove its rows; blocking.

        Raises:
            JobNotFoundError: there is none of this id.
            JobNotFinishedError: it waits or runs.
        """
        self.store.delete(id_)
        shutil.rmtree(self._folder / id_)

    def result(self, id_: str, kind: ResultFormat) -> Path:
        """A file with the rows of a job that has ended; blocking.

        Raises:
            JobNotFoundError: there is none of this id.
            JobNotFinishedError: it waits or runs.
            JobHasNoRowsError: it ended before there were any.
        """
        job = self.store.get(id_)
        if job.finished is None:
            raise JobNotFinishedError(
                f"{id_} is {job.status}, {job.done} of {job.total} clips are done; wait for it, or cancel it to have "
                "the rows there are"
            )
        file = self._folder / id_ / f"result.{kind}"
        with self._writing:
            if not file.exists():
                write_result(file.parent / FEATURES, file, kind)
        return file

    async def _work(self) -> None:
        while True:
            await self._waiting.acquire()
            try:
                job = await asyncio.to_thread(self.store.claim)
            except sqlite3.Error:  # of a full disk
                log.exception("the store of jobs cannot be written; trying again in %g s", STORE_SECONDS)
                await asyncio.sleep(STORE_SECONDS)
                self._waiting.release()
                continue
            # One that was cancelled while it waited, or between these two lines, is not begun.
            if job is None or job.id in self._cancelled:
                continue
            task = self._running[job.id] = asyncio.create_task(self._run(job))
            try:
                await asyncio.wait([task])
            finally:
                if task.done():
                    del self._running[job.id]
                    if not task.cancelled() and (error := task.exception()) is not None:
                        log.error("%s cannot be brought to an end; a restart goes on with it", job.id, exc_info=error)

    async def _run(self, job: Job) -> None:
        while True:
            try:
                why = await self._why_it_ended(job)
                await asyncio.to_thread(self.store.finish, job.id, why)
            # A full disk is no fault of the job's: what is committed stays, and it goes on from there.
            except (OutputUnwritableError, sqlite3.OperationalError) as error:
                log.warning("%s waits %g s: %s", job.id, STORE_SECONDS, error)
                await asyncio.sleep(STORE_SECONDS)
            else:
                return

    async def _why_it_ended(self, job: Job) -> ErrorBody | None:
        """Do a job; what to tell where it failed."""
        try:
            await self._extract(job)
        except (OutputUnwritableError, sqlite3.OperationalError):
            raise
        except MixedModelError as error:
            log.warning("%s failed: %s", job.id, error)
            words = "the gateway's model is no longer the one that began this job; send the job again"
            return ErrorBody(message=words, type="server_error", param=None, code=error.code)
        except Exception as error:
            log.warning("%s failed: %s", job.id, error)
            said = problem_of(error).body
            if said.code == "internal_error":
                said = said.model_copy(update={"message": f"Internal server error. Search the log for {job.id}"})
            return said
        log.info("%s is done", job.id)
        return None

    async def _extract(self, job: Job) -> None:
        folder = self._folder / job.id
        asked = await asyncio.to_thread(self.store.options, job.id)
        options = RowOptions(tokens=asked.tokens, dtype=asked.dtype, top_k=asked.top_k)
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
        """Decoders of its own, so that a job's broken videos harm no other, and the gateway's engine."""
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
                nice=NICE,
            )
            stack.push_async_callback(asyncio.to_thread, pool.__exit__, None, None, None)
            decoders = FetchingDecoders(pool, self._intake.fetcher, folder / FETCHED)
            stack.push_async_callback(asyncio.to_thread, decoders.close)
            yield LocalBackend(model, decoders, options, sha256=digest, at_once=at_once)


class _Reporter:
    """Writes how far a job is to the store, now and then and at the end."""

    def __init__(self, store: JobStore, id_: str) -> None:
        self._store = store
        self._id = id_
        self._latest: Progress | None = None

    async def __aenter__(self) -> _Reporter:
        self._task = asyncio.create_task(self._now_and_then())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        await self._write()

    def take(self, progress: Progress) -> None:
        """Note how far it is."""
        self._latest = progress

    async def _now_and_then(self) -> None:
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            await self._write()

    async def _write(self) -> None:
        if (latest := self._latest) is not None:
            done = latest.skipped + latest.done
            try:
                await asyncio.to_thread(self._store.progress, self._id, done=done, failed=latest.failed)
            except sqlite3.OperationalError as error:  # of a full disk; the next time tells more
                log.warning("how far %s is cannot be noted: %s", self._id, error)
                return
            if self._latest is latest:
                self._latest = None


def _locked(folder: Path) -> TextIO:
    """Make the folder and take it for this process.

    Raises:
        JobsDirError: it cannot be made or written to, or another process has it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise JobsDirError(f"{folder} cannot hold jobs ({error}); name another folder for them") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        raise JobsDirError(
            f"another gateway keeps its jobs in {folder}; stop it, or name another folder (SEFAR_JOBS_DIR)"
        ) from error
    return lock
