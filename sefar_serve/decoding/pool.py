"""The decode processes: started, asked for one video each at a time, stopped, counted and replaced."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace

from sefar_serve.decoding.channel import ChannelClosedError
from sefar_serve.decoding.errors import (
    DecoderCrashedError,
    DecodersUnavailableError,
    DecoderTimeoutError,
    DecodeStoppedError,
    UnexpectedDecodeError,
)
from sefar_serve.decoding.forkserver import ForkServer
from sefar_serve.decoding.lanes import Job, Lane, Opened, RemoteVideo
from sefar_serve.decoding.messages import Ask, Start, error_of, restore, segment_size
from sefar_serve.decoding.probe import probe_video
from sefar_serve.decoding.process import Answer, DecodeProcess, LostError
from sefar_serve.decoding.segments import content_fd, forget
from sefar_serve.decoding.task import Decoded, DecodeTask
from sefar_serve.metadata import ModelMetadata
from sefar_serve.pose import Estimators

log = logging.getLogger(__name__)

MEMORY = 2 * 1024**3
"""Bytes that a decode process may use beyond what it starts with. 4320p video needs 1 GiB, the pose estimator
0.1 GiB."""

PIXELS_PER_SECOND = 1.2e9
"""Real videos decode more slowly than this on one core, counting the frames that are skipped."""

SLOW_SECONDS = 2.0
"""A video that takes longer than this goes on beside the others, at low priority, and another takes its place."""

SLOW_NICE = 10

STARTS = 3
"""How many times starting a process is tried."""

RECENT_SECONDS = 5.0
"""A video that was decoded or refused so recently shows that decoding works."""


END_REASONS = ("crashed", "timeout", "stopped", "killed", "replaced")
"""Why processes end: the video crashed it or took too long, nobody waited for the video any more, something outside
killed it, or it had decoded many videos, used much memory, or been slow."""


@dataclass(frozen=True)
class ProcessLimits:
    """Limits on a decode process.

    Attributes:
        seconds: that decoding a video may take.
        memory: bytes that the process may use beyond what it starts with.
        nice: niceness of the process, 0 to 19.
        videos: after so many videos a process is replaced, so that leaks of decoders stay small.
        remote: whether processes read remote files themselves (`RemoteVideo`). They then keep network and files.
    """

    seconds: float = 60.0
    memory: int = MEMORY
    nice: int = 0
    videos: int = 1000
    remote: bool = False


class ProcessDecoders:
    """See `sefar_serve.decoding.Decoders`. Processes are started by `start`, or when they are first needed.

    Args:
        workers: number of videos decoded at a time.
        estimators: find the joints for models that see them; each process loads its own.
        limits: limits on each process.
        spare: how many more videos may be decoded, at low priority, if they take longer than `SLOW_SECONDS`.

    Attributes:
        ends: how many processes have ended, by reason, one of `END_REASONS`.
        on_end: called with the reason when a process has ended, in any thread.
    """

    def __init__(
        self,
        workers: int,
        estimators: Estimators,
        limits: ProcessLimits = ProcessLimits(),
        *,
        spare: int = 0,
    ) -> None:
        self._workers = workers
        self._estimators = estimators
        self._limits = limits
        self._threads = ThreadPoolExecutor(workers + spare, thread_name_prefix="sefar-decode")
        self._lanes = threading.Semaphore(workers)
        self._slow = threading.Semaphore(spare)
        self._lock = threading.Lock()
        self._starting = threading.Lock()
        self._server: ForkServer | None = None
        self._idle: list[DecodeProcess] = []
        self._all: set[DecodeProcess] = set()
        self._jobs: set[Future[Decoded]] = set()
        self._pose: ModelMetadata | None = None
        self._texts: list[tuple[ModelMetadata, str]] = []
        self._last_answer = float("-inf")
        self._closed = False
        self.ends: Counter[str] = Counter()
        self.on_end: Callable[[str], object] = lambda reason: None

    @property
    def pids(self) -> list[int]:
        """Ids of the processes."""
        with self._lock:
            return [process.pid for process in self._all]

    @property
    def server_pid(self) -> int | None:
        """Id of the process that starts them; None before the first is started."""
        return None if self._server is None else self._server.pid

    def start(self, *models: ModelMetadata) -> None:
        """See `sefar_serve.decoding.Decoders`."""
        for model in models:
            self._estimators.of(model)  # a missing one stops the start here, and is downloaded once
            if model.sees_joints:
                self._pose = model
        with ThreadPoolExecutor(min(self._workers, 8)) as starting:
            started = list(starting.map(lambda _: self._started(), range(self._workers)))
        if not self._limits.remote and "seccomp" not in started[0].held:
            log.warning("decode processes can reach the network, because this system has no seccomp filters")
        for process in started:
            self._return(process)

    def submit(self, opened: Opened, task: DecodeTask) -> Future[Decoded]:
        """See `sefar_serve.decoding.Decoders`. Cancelling the future stops a video that is being decoded."""
        job = Job(opened, task)
        with self._lock:
            if self._closed:
                raise DecodeStoppedError("this process is shutting down and decodes no more videos")
            self._jobs.add(job)
        job.add_done_callback(self._forget)
        self._threads.submit(self._run, job)
        return job

    def check(self, model: ModelMetadata) -> Future[object]:
        """See `sefar_serve.decoding.Decoders`."""
        if time.monotonic() - self._last_answer < RECENT_SECONDS:
            fine: Future[object] = Future()
            fine.set_result(None)
            return fine
        return self.submit(probe_video, DecodeTask(model, "the probe"))  # type: ignore[return-value]

    def close(self) -> None:
        """Stop all videos and end all processes."""
        with self._lock:
            self._closed = True
            jobs = list(self._jobs)
        for job in jobs:
            job.cancel()
        self._threads.shutdown(wait=True)
        for process in tuple(self._all):
            self._end(process, None)
        if self._server is not None:
            self._server.close()

    def _forget(self, job: Future[Decoded]) -> None:
        with self._lock:
            self._jobs.discard(job)

    def _run(self, job: Job) -> None:
        if not job.set_running_or_notify_cancel():
            return
        try:
            found = self._decode(job)
        except BaseException as error:  # for whoever waits for the video
            job.set_exception(error)
        else:
            job.set_result(found)

    def _decode(self, job: Job) -> Decoded:
        source = job.opened()
        if isinstance(source, RemoteVideo):
            return self._in_its_lane(job, None, source.url)
        fd = content_fd(source)
        try:
            return self._in_its_lane(job, fd, None)
        finally:
            os.close(fd)

    def _in_its_lane(self, job: Job, fd: int | None, url: str | None) -> Decoded:
        # Spare threads get videos ready while they wait here, so that processes need not wait for them.
        question = self._question(job.task, url)
        with Lane(self._lanes, self._slow) as lane:
            job.check_wanted()
            return self._in_a_process(job, lane, question, fd)

    def _in_a_process(self, job: Job, lane: Lane, question: Ask, fd: int | None) -> Decoded:
        killed = 0
        while True:
            # A new one after a kill, because idle ones may have been killed as well.
            process = self._started() if killed else self._taken(job.task.metadata)
            try:
                answer = self._asked(process, job, lane, question, fd)
            except LostError as lost:
                killed += self._lost(process, job, lost, killed)
                continue
            except DecodeStoppedError:
                self._return(process)
                raise
            except BaseException:
                self._end(process, "replaced")
                raise
            self._last_answer = time.monotonic()
            try:
                return _decoded(answer, job.task)
            finally:
                if answer.reply.retire or lane.aside:
                    self._end(process, "replaced")
                else:
                    self._return(process)

    def _lost(self, process: DecodeProcess, job: Job, lost: LostError, killed: int) -> int:
        """End a process; return by how much to raise the number of times that this video's process was killed.

        Raises:
            ClipError: it was the video's fault.
            DecodeStoppedError: nobody waits for the video.
        """
        status = process.end()
        # A process that was killed from outside, or died before it had the video: not the video's fault, unless twice.
        outside = lost.idle or (lost.reason == "crashed" and status in (None, -signal.SIGKILL))
        timeout = lost.reason == "timeout" or status in (-signal.SIGXCPU, -signal.SIGALRM)
        reason = "stopped" if job.stopped else "timeout" if timeout else "killed" if outside else "crashed"
        self._end(process, reason)
        name = job.task.name
        if reason == "stopped":
            raise DecodeStoppedError(f"{name}: decoding was stopped, because nobody waits for it any more") from lost
        if reason == "timeout":
            raise DecoderTimeoutError(
                f"{name}: decoding took longer than {self._limits.seconds:g} s and was stopped; use a shorter or "
                "smaller video, or a part of it"
            ) from lost
        if reason == "killed" and (lost.idle or not killed):
            return int(not lost.idle)
        how = "killed" if status is None else f"signal {-status}" if status < 0 else f"exit status {status}"
        raise DecoderCrashedError(
            f"{name} crashed the process that decoded it ({how}); the file is probably damaged"
        ) from lost

    def _question(self, task: DecodeTask, url: str | None) -> Ask:
        # What cannot be decoded in time is refused before it is tried.
        limits = replace(task.limits, max_decoded_pixels=self._limits.seconds * PIXELS_PER_SECOND)
        return Ask(
            model=self._text(task.metadata),
            name=task.name,
            url=url,
            new_memory=False,
            seconds=self._limits.seconds,
            limits=asdict(limits),
            start=task.start,
            end=task.end,
            windows=task.windows,
            stride=task.stride,
            max_windows=task.max_windows,
        )

    def _text(self, meta: ModelMetadata) -> str:
        """The metadata as JSON. The same models are asked for again and again."""
        with self._lock:
            for known, text in self._texts:
                if known is meta:
                    return text
            text = meta.model_dump_json()
            self._texts = [(meta, text), *self._texts[:7]]
            return text

    def _asked(self, process: DecodeProcess, job: Job, lane: Lane, question: Ask, fd: int | None) -> Answer:
        now = time.monotonic()
        slow_at = now + SLOW_SECONDS

        def on_wait() -> float:
            nonlocal slow_at
            if time.monotonic() >= slow_at and not lane.aside:
                if lane.step_aside():
                    process.lower_priority(SLOW_NICE)
                slow_at = time.monotonic() + 0.5
            return float("inf") if lane.aside else slow_at

        with job.decoded_by(process):
            return process.ask(
                question,
                fd,
                job.task.metadata,
                windows=job.task.max_windows if job.task.windows else None,
                deadline=now + self._limits.seconds,
                on_wait=on_wait,
            )

    def _taken(self, meta: ModelMetadata) -> DecodeProcess:
        """An idle process that can decode for a model, or a new one."""
        while True:
            with self._lock:
                if meta.sees_joints:
                    self._pose = meta
                process = self._idle.pop() if self._idle else None
            if process is None:
                return self._started()
            if process.orphaned:
                self._end(process, "killed")
            elif meta.sees_joints and not process.poses:
                self._end(process, "replaced")
            else:
                return process

    def _return(self, process: DecodeProcess) -> None:
        with self._lock:
            enough = len(self._idle) >= self._workers
            if not enough:
                self._idle.append(process)
        if enough:
            self._end(process, None)

    def _started(self) -> DecodeProcess:
        """Start a process.

        Raises:
            DecodersUnavailableError: processes end as soon as they start.
            SefarError: they cannot do what they are asked for.
        """
        limits = self._limits
        start = Start(
            memory=limits.memory, nice=limits.nice, videos=limits.videos, remote=limits.remote, pose=self._pose
        )
        why: Exception | None = None
        for _ in range(STARTS):
            server = self._running_server()
            try:
                process = DecodeProcess(server, start)
            except ChannelClosedError as error:
                why = error
                self._drop_server(server)
                continue
            with self._lock:
                self._all.add(process)
            return process
        raise DecodersUnavailableError(
            "decode processes end as soon as they start; check that there is enough memory"
        ) from why

    def _running_server(self) -> ForkServer:
        with self._starting:
            if self._server is None:
                self._server = ForkServer(self._estimators, whole_environment=self._limits.remote)
            return self._server

    def _drop_server(self, broken: ForkServer) -> None:
        """Forget a server that has ended, so that another is started."""
        with self._starting:
            if self._server is broken and not broken.running:
                broken.close()
                self._server = None

    def _end(self, process: DecodeProcess, reason: str | None) -> None:
        """End a process, and count it if there is a reason."""
        process.end()
        with self._lock:
            self._all.discard(process)
            if reason is not None:
                self.ends[reason] += 1
        if reason is not None:
            self.on_end(reason)


def _decoded(answer: Answer, task: DecodeTask) -> Decoded:
    """The clips that a process has decoded.

    Raises:
        SefarError: it has refused the video.
        UnexpectedDecodeError: it met an exception that it should not.
    """
    reply = answer.reply
    if reply.failure is not None:
        if reply.failure.code:
            raise error_of(reply.failure)
        raise UnexpectedDecodeError(task.name, reply.failure.message, reply.failure.trace)
    assert reply.decoded is not None
    clips = []
    size = segment_size(task.metadata, 1)
    for number, told in enumerate(reply.decoded):
        clips.append(restore(told, answer.memory, task.metadata, number))
        if task.windows:  # the memory of all windows may be large
            forget(answer.memory, number * size, (number + 1) * size)
    return Decoded([(told.start, told.end) for told in reply.decoded], clips, reply.seconds)
