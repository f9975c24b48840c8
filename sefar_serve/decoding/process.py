"""One decode process, as its parent sees it: started, asked for a video, and lost if it breaks the rules."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from sefar_serve.decoding.channel import Channel, ChannelClosedError
from sefar_serve.decoding.errors import DecodersUnavailableError
from sefar_serve.decoding.forkserver import START_SECONDS, ForkServer
from sefar_serve.decoding.messages import Ask, Reply, Start, error_of, segment_size
from sefar_serve.decoding.segments import new_segment, seen
from sefar_serve.metadata import ModelMetadata


class LostError(Exception):
    """The process has ended, or must be ended.

    Args:
        reason: ``crashed`` or ``timeout``.
        idle: whether it ended before it had the video.
    """

    def __init__(self, reason: str, *, idle: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.idle = idle


@dataclass(frozen=True)
class Answer:
    """What a process answered.

    Attributes:
        reply: with the clips, or a failure.
        memory: uint8, holds the clips.
    """

    reply: Reply
    memory: NDArray[np.uint8]


class DecodeProcess:
    """A process that has started. For one thread, except `interrupt`.

    Args:
        server: starts it.
        start: what it is asked to be.

    Attributes:
        pid: its id.
        poses: whether it has loaded a pose estimator.
        held: which protections hold in it, besides limits.

    Raises:
        ChannelClosedError: the server or the process ended.
        DecodersUnavailableError: the process does not get ready in time.
        SefarError: the process cannot do what it is asked for, e.g. load the pose estimator.
    """

    def __init__(self, server: ForkServer, start: Start) -> None:
        self.poses = start.pose is not None
        self._server = server
        self._status: int | None = None
        self._ended = False
        self._memory = np.zeros(0, np.uint8)  # of one clip; new pages for every clip would take longer than copying it
        self._channel, there = Channel.pair()
        with there:
            try:
                self.pid = server.fork(there)
            except BaseException:
                self._channel.close()
                raise
        try:
            self._channel.send(start.model_dump_json().encode())
            ready = Reply.model_validate_json(self._channel.receive(START_SECONDS)[0])
        except TimeoutError as error:
            self.end()
            raise DecodersUnavailableError(f"a decode process was not ready in {START_SECONDS:g} s") from error
        except BaseException:
            self.end()
            raise
        if ready.failure is not None:
            self.end()
            raise error_of(ready.failure)
        self.held = ready.ready or ()

    def ask(
        self,
        question: Ask,
        fd: int | None,
        meta: ModelMetadata,
        *,
        windows: int | None,
        deadline: float,
        on_wait: Callable[[], float],
    ) -> Answer:
        """Let it decode a video.

        Args:
            question: about the video.
            fd: descriptor of the video; None if the question has its URL.
            meta: of the model.
            windows: maximum number of clips of windows; None for one clip.
            deadline: on the monotonic clock.
            on_wait: called now and then; returns the time on the monotonic clock when it wants to be called again.

        Returns:
            Its memory is valid until the process is asked again.

        Raises:
            LostError: the process must be ended.
        """
        try:
            self._send(question, [] if fd is None else [fd], segment_size(meta, 1))
        except ChannelClosedError as error:
            raise LostError("crashed", idle=True) from error
        try:
            reply = self._reply(deadline, on_wait)
            memory, clips = self._memory, 1
            if windows is not None and reply.clips is not None:
                clips = reply.clips
                if not 1 <= clips <= windows:
                    raise LostError("crashed")
                memory = self._shared(b"", segment_size(meta, clips))
                reply = self._reply(deadline, on_wait)
        except (ChannelClosedError, ValidationError) as error:
            raise LostError("crashed") from error
        except TimeoutError as error:
            raise LostError("timeout") from error
        if reply.failure is None and len(reply.decoded or ()) != clips:
            raise LostError("crashed")
        return Answer(reply, memory)

    def _send(self, question: Ask, fds: Sequence[int], size: int) -> None:
        """Send a question, and memory for one clip unless the process has it."""
        if question.windows or len(self._memory) == size:
            self._channel.send(question.model_dump_json().encode(), fds)
        else:
            question = question.model_copy(update={"new_memory": True})
            self._memory = self._shared(question.model_dump_json().encode(), size, fds)

    def _shared(self, message: bytes, size: int, fds: Sequence[int] = ()) -> NDArray[np.uint8]:
        """Send a message with memory, which both processes then have."""
        fd = new_segment(size)
        try:
            self._channel.send(message, [fd, *fds])
            return seen(fd, size)
        finally:
            os.close(fd)

    def _reply(self, deadline: float, on_wait: Callable[[], float]) -> Reply:
        while not self._channel.ready(min(deadline, on_wait()) - time.monotonic()):
            if time.monotonic() >= deadline:
                raise TimeoutError
        message, _ = self._channel.receive(max(deadline - time.monotonic(), 1.0))
        return Reply.model_validate_json(message)

    @property
    def orphaned(self) -> bool:
        """Whether the server has ended, which ends this process too."""
        return not self._server.running

    def lower_priority(self, by: int) -> None:
        """Make it nicer; that cannot be undone."""
        with suppress(OSError):  # it has ended
            os.setpriority(os.PRIO_PROCESS, self.pid, min(os.getpriority(os.PRIO_PROCESS, self.pid) + by, 19))

    def interrupt(self) -> None:
        """From any thread: make `ask` raise `LostError`."""
        self._channel.interrupt()

    def end(self) -> int | None:
        """End it, and return its exit status as `ForkServer.end` does. Safe to call again."""
        if not self._ended:
            self._ended = True
            self._memory = np.zeros(0, np.uint8)  # the traceback of an error may keep this object alive
            self._channel.close()
            self._status = self._server.end(self.pid)
        return self._status
