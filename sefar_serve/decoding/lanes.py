"""A video that waits or is decoded, and its place among those that are decoded at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

from sefar_serve.clip import VideoSource
from sefar_serve.decoding.errors import DecodeStoppedError
from sefar_serve.decoding.process import DecodeProcess
from sefar_serve.decoding.task import Decoded, DecodeTask


@dataclass(frozen=True)
class RemoteVideo:
    """A video that the process reads itself, with fsspec.

    Attributes:
        url: e.g. ``s3://bucket/vault.mp4``.
    """

    url: str


Opened = Callable[[], VideoSource | RemoteVideo]


class Job(Future[Decoded]):
    """A video that is to be decoded; cancelling it stops the process that decodes it.

    Attributes:
        stopped: whether it was cancelled while it was decoded.
    """

    def __init__(self, opened: Opened, task: DecodeTask) -> None:
        super().__init__()
        self.opened = opened
        self.task = task
        self.stopped = False
        self._process: DecodeProcess | None = None
        self._guard = threading.Lock()

    def cancel(self) -> bool:
        """Cancel it if it waits; stop its process if it is being decoded."""
        if super().cancel():
            return True
        with self._guard:
            self.stopped = True
            if self._process is not None:
                self._process.interrupt()
        return False

    def check_wanted(self) -> None:
        """Check that it was not cancelled meanwhile.

        Raises:
            DecodeStoppedError: it was.
        """
        if self.stopped:
            raise DecodeStoppedError(f"{self.task.name} was not decoded, because nobody waits for it any more")

    @contextmanager
    def decoded_by(self, process: DecodeProcess) -> Iterator[None]:
        """While a process decodes it."""
        with self._guard:
            self.check_wanted()
            self._process = process
        try:
            yield
        finally:
            with self._guard:
                self._process = None


class Lane:
    """The place of a video among those that are decoded at a time; a context manager that waits for one."""

    def __init__(self, lanes: threading.Semaphore, slow: threading.Semaphore) -> None:
        self._lanes = lanes
        self._slow = slow
        self.aside = False

    def __enter__(self) -> Self:
        self._lanes.acquire()
        return self

    def step_aside(self) -> bool:
        """Give the place to another video and go on beside it, if there is room."""
        if not self.aside and self._slow.acquire(blocking=False):
            self.aside = True
            self._lanes.release()
        return self.aside

    def __exit__(self, *_: object) -> None:
        (self._slow if self.aside else self._lanes).release()
