"""Asynchronous parts behind blocking calls: an event loop in a thread of its own.

The thread is there whether or not the caller runs an event loop, as a notebook does, and it serves several threads at
once. It ends with `Background.close`, or in time when the program ends.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import concurrent.futures.thread  # its exit hook has to be registered before ours, which then runs first
import os
import threading
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, TypeVar

from sefar_serve.errors import SefarError

T = TypeVar("T")
Parts = TypeVar("Parts")


class ModelClosedError(SefarError, RuntimeError):
    """The model was closed, or its process forked."""

    status = 503
    code = "model_closed"


class Background(Generic[Parts]):
    """Parts that live on an event loop in a daemon thread, from here until they are closed.

    Args:
        opened: makes the parts when it is entered and closes them when it is left, both on the loop.

    Raises:
        Exception: what entering `opened` raised.
    """

    def __init__(self, opened: Callable[[], AbstractAsyncContextManager[Parts]]) -> None:
        self._opened = opened
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._closing = False
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._tasks: set[asyncio.Task[object]] = set()
        self._ready: concurrent.futures.Future[Parts] = concurrent.futures.Future()
        self._failure: BaseException | None = None
        # A daemon: Python waits for other threads before it runs anything that could tell them to end.
        self._thread = threading.Thread(target=self._run, name="sefar-model", daemon=True)
        _open.add(self)
        self._thread.start()
        try:
            self.parts = self._ready.result()
        except BaseException:
            self.close(wait=False)
            raise

    @property
    def usable(self) -> bool:
        """Whether it is open, and its thread is in this process: a fork has no threads but its own."""
        return not self._closing and self._pid == os.getpid()

    def submit(self, work: Callable[[], Awaitable[T]]) -> concurrent.futures.Future[T]:
        """Begin work on the loop; cancelling the future cancels it.

        Args:
            work: called on the loop.

        Raises:
            ModelClosedError: closed.
        """
        if self._pid != os.getpid():
            raise ModelClosedError("this was begun in another process; call the model again in this one")
        with self._lock:
            if self._closing:
                raise ModelClosedError("this model is closed; load it again")
            return asyncio.run_coroutine_threadsafe(self._tracked(work), self._loop)

    def result(self, work: concurrent.futures.Future[T]) -> T:
        """Wait for work that was begun; an interrupt cancels it.

        Raises:
            ModelClosedError: closed in the meantime.
        """
        if self._pid != os.getpid():
            raise ModelClosedError("this was begun in another process; call the model again in this one")
        try:
            return work.result()
        except concurrent.futures.CancelledError as error:
            raise ModelClosedError("this model was closed before it could answer") from error
        except BaseException:
            work.cancel()
            raise

    def close(self, *, wait: bool = True) -> None:
        """Cancel what is under way, close the parts and end the thread. Safe to call twice.

        Args:
            wait: until that is done; videos that are being decoded are decoded to their end.

        Raises:
            Exception: what closing the parts raised.
        """
        if self._pid != os.getpid():
            return
        with self._lock:
            if not self._closing:
                self._closing = True
                self._loop.call_soon_threadsafe(self._stop.set)
        if wait:
            self._thread.join()
            if self._failure is not None:
                raise self._failure

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            try:
                runner.run(self._live())
            except BaseException as error:  # raised where somebody waits: by the constructor, or by `close`
                if self._ready.done():
                    self._failure = error
                else:
                    self._ready.set_exception(error)
            finally:
                with self._lock:
                    self._closing = True
                _open.discard(self)

    async def _live(self) -> None:
        async with self._opened() as parts:
            self._ready.set_result(parts)
            await self._stop.wait()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _tracked(self, work: Callable[[], Awaitable[T]]) -> T:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(_looked_at)
        return await work()


def _looked_at(task: asyncio.Task[object]) -> None:
    """Whoever waited may be gone; asyncio is not to complain about a failure that nobody asks for."""
    if not task.cancelled():
        task.exception()


_open: set[Background[Any]] = set()
_abandoned: list[Background[Any]] = []


def _close_all() -> None:
    for background in tuple(_open):
        background.close()


def _abandon_all() -> None:
    """In a forked process: keep what it inherits, unused.

    Its threads stayed behind. An ONNX Runtime session that is destroyed here waits for its own for ever.
    """
    _abandoned.extend(_open)
    _open.clear()


# Decoding threads belong to executors, which Python shuts down before it runs the functions of `atexit`: by then
# work under way would fail loudly. There is no public hook that is early enough.
threading._register_atexit(_close_all)  # type: ignore[attr-defined]
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_all)
