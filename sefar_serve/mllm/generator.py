"""A language model in this process: one thread owns it and answers waiting requests in batches.

The event loop never runs the model. Conversations are tokenised in a separate thread and wait in a bounded
queue; answers are streamed in pieces. Requests that arrive while a batch runs form the next one. When a caller
is cancelled, its row ends at the next token. When a batch fails, the rows that have no token yet run again alone.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from sefar_serve.language.errors import (
    GenerationFailedError,
    GeneratorOverloadedError,
    GeneratorUnavailableError,
    PromptTooLongError,
)
from sefar_serve.language.protocol import (
    FinishReason,
    GenerationOptions,
    GeneratorInfo,
    Message,
    OptionScore,
    Piece,
    Scores,
    TokenUsage,
)
from sefar_serve.metadata import ModelMetadata
from sefar_serve.mllm.adapter import Adapter, check_encoder, load_adapter
from sefar_serve.mllm.batch import Row, generate, score
from sefar_serve.mllm.prompt import Prompt, answer_length, context_length, make_prompt, option_ids

log = logging.getLogger(__name__)

STALLED = 120.0
"""Seconds without a token after which the running batch counts as hung."""


@dataclass(eq=False)
class _Waiting:
    """One request in the queue: an answer to write, or options to score."""

    row: Row | None
    judge: Callable[[], list[float]] | None
    future: asyncio.Future[list[float]]


class LocalGenerator:
    """Answers with an adapter's language model in this process. See `sefar_serve.language.protocol.Generator`.

    Args:
        adapter: folder or hub id, or a loaded adapter.
        device: ``auto`` uses a GPU if there is one.
        max_batch: maximum number of answers generated at a time.
        max_queue: maximum number of requests waiting or running; more are refused.
        max_tokens: default maximum length of an answer, in tokens.

    Raises:
        AdapterNotFoundError, AdapterMismatchError: see `sefar_serve.mllm.adapter.load_adapter`.
    """

    def __init__(
        self,
        adapter: str | Path | Adapter,
        *,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        max_batch: int = 8,
        max_queue: int = 64,
        max_tokens: int = 128,
    ) -> None:
        self._adapter = adapter if isinstance(adapter, Adapter) else load_adapter(adapter, device=device)
        self._max_batch = max_batch
        self._max_queue = max_queue
        self._max_tokens = max_tokens
        self._waiting: deque[_Waiting] = deque()
        self._accepted = 0
        self._arrived = asyncio.Event()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="sefar-generate")
        # Fast tokenizers must not be used from two threads at a time.
        self._tokenise = ThreadPoolExecutor(1, thread_name_prefix="sefar-tokenise")
        self._loop: asyncio.Task[None] | None = None
        self._running: list[_Waiting] = []
        self._last_token = time.monotonic()
        self._closing = False

    @property
    def info(self) -> GeneratorInfo:
        """The adapter's name, and its language model's name and context length."""
        config = self._adapter.model.config
        language_model = self._adapter.model.language_model.config
        return GeneratorInfo(
            name=config.name,
            context_length=context_length(language_model),
            backend="in-process",
            language_model=language_model.name_or_path or language_model.model_type,
        )

    @property
    def queue_depth(self) -> int:
        """Number of requests accepted but not yet answered."""
        return self._accepted

    async def start(self) -> None:
        """Start taking requests."""
        self._closing = False
        self._loop = asyncio.create_task(self._serve(), name="sefar-generator")

    async def close(self) -> None:
        """Cancel running and waiting requests, and stop the threads."""
        self._closing = True
        self._arrived.set()
        if self._loop is not None:
            await self._loop
        await asyncio.to_thread(self._worker.shutdown)
        await asyncio.to_thread(self._tokenise.shutdown)

    async def check(self) -> None:
        """Check that requests are taken from the queue and that tokens are generated.

        Raises:
            GeneratorUnavailableError: the generator is not started, is closing, or hangs.
        """
        if self._closing or self._loop is None or self._loop.done():
            raise GeneratorUnavailableError(
                "the language model is starting or shutting down and takes no requests; try again later"
            )
        silent = time.monotonic() - self._last_token
        if self._running and silent > STALLED:
            raise GeneratorUnavailableError(f"the language model has not generated a token for {silent:.0f} seconds")

    def fits(self, metadata: ModelMetadata) -> None:
        """Check that the encoder is the one that the adapter was trained with.

        Raises:
            AdapterMismatchError: name, version or sizes differ.
        """
        check_encoder(self._adapter.model.config, metadata)

    async def generate(self, messages: Sequence[Message], options: GenerationOptions) -> AsyncGenerator[Piece, None]:
        """Answer a conversation, see `sefar_serve.language.protocol.Generator.generate`."""
        await self._admit()
        pieces: asyncio.Queue[tuple[str, FinishReason | None]] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        gone = False
        waiting: _Waiting | None = None
        try:
            prompt = await loop.run_in_executor(self._tokenise, make_prompt, self._adapter.processor, messages)
            allowed = answer_length(len(prompt.ids), self.info.context_length, options.max_tokens, self._max_tokens)

            def emit(text: str, reason: FinishReason | None) -> None:
                loop.call_soon_threadsafe(pieces.put_nowait, (text, reason))

            row = Row(prompt, replace(options, max_tokens=allowed), emit, lambda: gone or self._closing)
            waiting = self._enqueue(row=row)
            while True:
                text, reason = await self._next(pieces, waiting.future)
                if reason is not None:
                    yield Piece(text, reason, TokenUsage(len(prompt.ids), row.tokens))
                    return
                yield Piece(text)
        finally:
            gone = True
            self._leave(waiting)

    async def score(self, messages: Sequence[Message], options: Sequence[str]) -> Scores:
        """Score options, see `sefar_serve.language.protocol.Generator.score`."""
        await self._admit()
        loop = asyncio.get_running_loop()
        waiting: _Waiting | None = None
        try:
            processor = self._adapter.processor
            prompt, ids = await loop.run_in_executor(
                self._tokenise, lambda: (make_prompt(processor, messages), option_ids(processor, options))
            )
            if (longest := len(prompt.ids) + max(map(len, ids))) > self.info.context_length:
                raise PromptTooLongError(
                    f"the prompt with its longest option has {longest} tokens, but this model takes "
                    f"{self.info.context_length}; shorten it"
                )
            waiting = self._enqueue(judge=partial(self._judge, prompt, ids))
            sums = await waiting.future
        finally:
            self._leave(waiting)
        scored = tuple(OptionScore(total, len(option)) for total, option in zip(sums, ids, strict=True))
        return Scores(scored, TokenUsage(len(prompt.ids), sum(map(len, ids))))

    async def _admit(self) -> None:
        await self.check()
        if self._accepted >= self._max_queue:
            raise GeneratorOverloadedError(
                f"{self._accepted} requests are already waiting for the language model; try again later",
                retry_after=max(1, self._accepted // self._max_batch),
            )
        self._accepted += 1

    def _leave(self, waiting: _Waiting | None) -> None:
        self._accepted -= 1
        if waiting is not None and waiting in self._waiting:
            self._waiting.remove(waiting)

    def _enqueue(self, *, row: Row | None = None, judge: Callable[[], list[float]] | None = None) -> _Waiting:
        if self._closing:  # it closed after the request was admitted: nothing takes requests from the queue any more
            raise GeneratorUnavailableError("the server is shutting down")
        waiting = _Waiting(row, judge, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._arrived.set()
        return waiting

    @staticmethod
    async def _next(
        pieces: asyncio.Queue[tuple[str, FinishReason | None]], failed: asyncio.Future[list[float]]
    ) -> tuple[str, FinishReason | None]:
        """The next piece, or the failure that ended the answer."""
        piece = asyncio.ensure_future(pieces.get())
        try:
            await asyncio.wait((piece, failed), return_when=asyncio.FIRST_COMPLETED)
            if piece.done():
                return piece.result()
            failed.result()
            # The batch ended without an error: the last pieces are about to arrive.
            return await piece
        finally:
            piece.cancel()

    async def _serve(self) -> None:
        while not self._closing:
            if not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
                continue
            batch = [self._waiting.popleft()]
            while batch[0].row and self._waiting and self._waiting[0].row and len(batch) < self._max_batch:
                batch.append(self._waiting.popleft())
            await self._answer(batch)
        for waiting in [*self._waiting]:
            _fail(waiting, GeneratorUnavailableError("the server is shutting down"))

    async def _answer(self, batch: list[_Waiting]) -> None:
        self._running, self._last_token = batch, time.monotonic()
        loop = asyncio.get_running_loop()
        try:
            if (judge := batch[0].judge) is not None:
                sums = await loop.run_in_executor(self._worker, judge)
            else:
                rows = [waiting.row for waiting in batch if waiting.row is not None]
                await loop.run_in_executor(self._worker, self._write, rows)
                sums = []
        # Whatever the model raises fails these requests, never this task: if the task ended, every later request
        # would hang while the process looks healthy.
        except Exception as error:
            await self._after_failure(batch, error)
            return
        finally:
            self._running = []
        for waiting in batch:
            if waiting.row is not None and self._closing:
                _fail(waiting, GeneratorUnavailableError("the server is shutting down"))
            elif not waiting.future.done():
                waiting.future.set_result(sums)

    async def _after_failure(self, batch: list[_Waiting], error: Exception) -> None:
        log.warning("a batch of %d requests failed", len(batch), exc_info=error)
        for waiting in batch:
            untouched = waiting.row is not None and waiting.row.tokens == 0
            if len(batch) > 1 and untouched and not waiting.future.done():
                await self._answer([waiting])
            else:
                failure = GenerationFailedError(f"the language model failed on this request: {error}")
                failure.__cause__ = error
                _fail(waiting, failure)

    def _write(self, rows: list[Row]) -> None:
        def beat() -> None:
            self._last_token = time.monotonic()

        generate(self._adapter, rows, beat)

    def _judge(self, prompt: Prompt, options: list[list[int]]) -> list[float]:
        return [
            total
            for start in range(0, len(options), self._max_batch)
            for total in score(self._adapter, prompt, options[start : start + self._max_batch])
        ]


def _fail(waiting: _Waiting, error: Exception) -> None:
    if not waiting.future.done():
        waiting.future.set_exception(error)
        waiting.future.exception()  # marks it as retrieved, because the caller may be gone already
