"""Micro-batching: clips that arrive together go through the model together.

A bounded queue feeds one worker thread. A batch starts when it is full or when its first clip
has waited `max_wait`; clips that arrive while a batch runs form the next one. When a caller is
cancelled, its clip leaves the queue and costs nothing. When a batch fails, its clips are run again
one by one, so that only the bad clip fails.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from sefar_serve.engine.base import Inputs, Outputs, Prediction, batch_of
from sefar_serve.engine.errors import EngineOverloadedError, EngineUnavailableError, InferenceError

log = logging.getLogger(__name__)

RunBatch = Callable[[Inputs], Outputs]


@dataclass(eq=False)  # compared by identity: two requests may carry equal clips
class _Waiting:
    inputs: Inputs
    future: asyncio.Future[Prediction]
    since: float = field(default_factory=time.perf_counter)


class MicroBatcher:
    """Batches calls of one blocking function.

    Args:
        run: takes the inputs of B clips, each with a batch axis, and returns `Outputs`; called from one worker thread.
        version: version of the weights behind `run`.
        max_batch: maximum number of clips in one call, at least 1.
        max_wait: seconds that the first clip of a batch waits for others, at least 0.
        max_queue: maximum number of clips waiting, at least 1; more are refused with `EngineOverloadedError`.
    """

    def __init__(self, run: RunBatch, version: str, *, max_batch: int, max_wait: float, max_queue: int) -> None:
        if max_batch < 1 or max_queue < 1 or max_wait < 0:
            raise ValueError(
                f"max_batch {max_batch} and max_queue {max_queue} must be at least 1, max_wait {max_wait} at least 0"
            )
        self._run = run
        self._version = version
        self._max_batch = max_batch
        self._max_wait = max_wait
        self._max_queue = max_queue
        self._waiting: deque[_Waiting] = deque()
        self._arrived = asyncio.Event()
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sefar-infer")
        self._loop: asyncio.Task[None] | None = None
        self._closing = False
        self._batch_seconds = 0.0

    @property
    def depth(self) -> int:
        """Number of clips waiting."""
        return len(self._waiting)

    @property
    def alive(self) -> bool:
        """Whether clips are still being taken from the queue."""
        return self._loop is not None and not self._loop.done()

    def start(self) -> None:
        """Start taking clips; call from a running event loop."""
        self._loop = asyncio.create_task(self._serve(), name="sefar-batcher")

    async def submit(self, inputs: Inputs) -> Prediction:
        """Queue one clip and wait for its prediction; cancelling the caller removes the clip from the queue.

        Raises:
            EngineUnavailableError: the batcher is not started or is closing.
            EngineOverloadedError: the queue is full.
            InferenceError: `run` failed on this clip.
        """
        if self._closing or not self.alive:
            raise EngineUnavailableError("the engine is starting or shutting down and takes no clips; try again later")
        if len(self._waiting) >= self._max_queue:
            batches = len(self._waiting) / self._max_batch
            raise EngineOverloadedError(
                f"{len(self._waiting)} clips are already waiting for the model; try again later",
                retry_after=max(1, round(batches * self._batch_seconds)),
            )
        item = _Waiting(inputs, asyncio.get_running_loop().create_future())
        self._waiting.append(item)
        self._arrived.set()
        try:
            return await item.future
        finally:
            if item in self._waiting:
                self._waiting.remove(item)

    async def close(self) -> None:
        """Refuse new clips, finish the waiting ones, stop the worker."""
        self._closing = True
        self._arrived.set()
        if self._loop is not None:
            await self._loop
        self._worker.shutdown(wait=True)

    async def _serve(self) -> None:
        while True:
            while not self._waiting:
                if self._closing:
                    return
                self._arrived.clear()
                await self._arrived.wait()
            await self._wait_for_others()
            batch = [self._waiting.popleft() for _ in range(min(self._max_batch, len(self._waiting)))]
            if batch:
                await self._answer(batch)

    async def _wait_for_others(self) -> None:
        deadline = time.perf_counter() + self._max_wait
        while 0 < len(self._waiting) < self._max_batch and not self._closing:
            remaining = deadline - time.perf_counter()
            if remaining <= 0:
                return
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), remaining)
            except TimeoutError:
                return

    async def _answer(self, batch: list[_Waiting]) -> None:
        started = time.perf_counter()
        try:
            stacked = batch_of([item.inputs for item in batch])
            outputs = await asyncio.get_running_loop().run_in_executor(self._worker, self._run, stacked)
        # Whatever the model raises fails the clips of this batch, never this task: if the task ended,
        # every later request would hang while the process looks healthy.
        except Exception as error:
            if len(batch) > 1:
                log.warning("a batch of %d failed (%s); running its clips one by one", len(batch), error)
                for item in batch:
                    if not item.future.done():
                        await self._answer([item])
            elif not batch[0].future.done():
                log.warning("the model failed on a clip", exc_info=error)
                failure = InferenceError(f"the model failed on this clip: {error}")
                failure.__cause__ = error
                batch[0].future.set_exception(failure)
            return
        seconds = time.perf_counter() - started
        self._batch_seconds = seconds
        for index, item in enumerate(batch):
            if not item.future.done():
                waited = started - item.since
                item.future.set_result(Prediction(outputs.row(index), self._version, waited, seconds, len(batch)))
