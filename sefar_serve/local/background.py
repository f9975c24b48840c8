"""An event loop in a background thread, so that blocking calls can use asynchronous parts.

It works whether or not the caller runs an event loop, as notebooks do, and serves several threads at once. The thread
ends with `Background.close`, or when the program exits.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import concurrent.futures.thread  # registers its exit hook before ours, so ours runs first
import os
import threading
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, ExitStack
from typing import Any, Generic, TypeVar

from sefar_serve.errors import SefarError

T = TypeVar("T")
Parts = TypeVar("Parts")


class ModelClosedError(SefarError, RuntimeError):
    """The model was closed, or the call was made in a process that has since forked."""

    status = 503
    code = "model_closed"


class Background(Generic[Parts]):
    """Runs parts on an event loop in a daemon thread, from construction until `close`.

    Args:
        opened: returns a context manager that starts the parts when it is entered and stops them when it exits. Both
            happen on the loop.

    Raises:
        Exception: entering the context manager raised it.
    """

    def __init__(self, opened: Callable[[], AbstractAsyncContextManager[Parts]]) -> None:
        self._opened = opened
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._closing = False
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._ready: concurrent.futures.Future[Parts] = concurrent.futures.Future()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="sefar-model", daemon=True)
        _open.add(self)
        self._thread.start()
        try:
            self.parts = self._ready.result()
        except BaseException:
            self.close(wait=False)
            raise

    def submit(self, work: Callable[[], Awaitable[T]]) -> concurrent.futures.Future[T]:
        """Start work on the loop. Cancelling the future cancels the work.

        Args:
            work: called on the loop.

        Raises:
            ModelClosedError: it is closed.
        """
        self._check_process()
        with self._lock:
            if self._closing:
                raise ModelClosedError("this model is closed; load it again")
            return asyncio.run_coroutine_threadsafe(self._tracked(work), self._loop)

    def result(self, work: concurrent.futures.Future[T]) -> T:
        """Wait for work. An interrupt cancels it.

        Raises:
            ModelClosedError: it was closed before the work was done.
            Exception: the work raised it.
        """
        self._check_process()
        try:
            return work.result()
        except concurrent.futures.CancelledError as error:
            raise ModelClosedError("this model was closed before it could answer") from error
        except BaseException:
            work.cancel()
            raise

    def close(self, *, wait: bool = True) -> None:
        """Cancel all work, stop the parts and end the thread. Safe to call twice.

        Args:
            wait: until that is done. A video that is being decoded is decoded to its end.

        Raises:
            Exception: stopping the parts raised it.
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

    def _check_process(self) -> None:
        if self._pid != os.getpid():
            raise ModelClosedError("this call was made before the process forked; call the model again")

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            try:
                runner.run(self._live())
            except BaseException as error:  # raised again in the thread that waits for the start or the end
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
        task.add_done_callback(_retrieve_exception)
        return await work()


def _retrieve_exception(task: asyncio.Task[Any]) -> None:
    """Keep asyncio from logging the error of a cancelled call that nobody waits for."""
    if not task.cancelled():
        task.exception()


_open: set[Background[Any]] = set()
_abandoned: list[Background[Any]] = []


def _close_all() -> None:
    with ExitStack() as closing:
        for background in tuple(_open):
            closing.callback(background.close)


def _abandon_all() -> None:
    """In a forked process, keep what was inherited without using it.

    Its threads exist only in the parent. Destroying an ONNX Runtime session here would wait for them forever.
    """
    _abandoned.extend(_open)
    _open.clear()


# Python shuts down the executors that decode before it runs `atexit` functions. Work in progress would then fail with
# errors in the log. This hook runs early enough, and there is no public one that does.
threading._register_atexit(_close_all)  # type: ignore[attr-defined]
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_all)
