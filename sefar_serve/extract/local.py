"""Extraction on this machine: decode processes feed one engine, in this process or on a Triton server."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Iterable

from sefar_serve.engine import (
    EngineOverloadedError,
    EngineTimeoutError,
    EngineUnavailableError,
    InferenceError,
    Model,
    Prediction,
)
from sefar_serve.engine.base import Inputs
from sefar_serve.extract.clips import MixedModelError
from sefar_serve.extract.decoders import DecodeError, Decoders
from sefar_serve.extract.rows import ClipRow, RowOptions, failed_row, found_row
from sefar_serve.extract.run import Work
from sefar_serve.metadata import ModelMetadata

log = logging.getLogger(__name__)


def clips_at_once(max_batch: int, workers: int) -> int:
    """How many clips to keep in flight so that neither the model nor the decoders wait.

    One batch is in the model and four are ready or nearly ready. With two, decoders were idle a tenth of the time
    (benchmarks/extract.py). Each clip takes 98 KB of memory at 64 px and 8 frames, 1.2 MB at 224 px.

    Args:
        max_batch: maximum number of clips per inference.
        workers: number of decode processes.
    """
    return 5 * max_batch + 2 * workers


class LocalBackend:
    """Processes clips on this machine; see `sefar_serve.extract.run.Backend`.

    Args:
        model: a model of a started engine.
        decoders: started decoders.
        options: row contents.
        sha256: SHA-256 of the model file; None if a server runs the model.
        at_once: maximum number of clips in flight. The decoders' slots limit how many of them are decoded.
        patience: seconds without any answer from the engine before the run fails. Until then requests are retried.
    """

    def __init__(
        self,
        model: Model,
        decoders: Decoders,
        options: RowOptions,
        *,
        sha256: str | None = None,
        at_once: int = 16,
        patience: float = 300.0,
    ) -> None:
        self.metadata: ModelMetadata = model.metadata
        self.sha256 = sha256
        self._model = model
        self._decoders = decoders
        self._options = options
        self._at_once = at_once
        self._patience = patience
        self._last_answer = time.monotonic()

    async def rows(self, work: Iterable[Work]) -> AsyncGenerator[tuple[Work, ClipRow]]:
        """Process clips concurrently. Rows come in the order they are ready."""
        self._last_answer = time.monotonic()
        waiting = iter(work)
        running: set[asyncio.Task[tuple[Work, ClipRow]]] = set()
        try:
            while True:
                while len(running) < self._at_once and (one := next(waiting, None)) is not None:
                    running.add(asyncio.create_task(self._one(one)))
                if not running:
                    return
                ended, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in ended:
                    running.remove(task)
                    yield task.result()
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _one(self, work: Work) -> tuple[Work, ClipRow]:
        try:
            async with self._decoders.decoded(work.clip) as clip:
                prediction = await self._infer(clip.inputs)
        except DecodeError as error:
            return work, failed_row(work.clip, error.code, str(error), self.metadata)
        except InferenceError as error:
            return work, failed_row(work.clip, "inference_failed", str(error), self.metadata)
        if prediction.version != self.metadata.version:
            raise MixedModelError(
                f"the server switched to version {prediction.version} of {self.metadata.name}; this run started with "
                f"version {self.metadata.version}. Serve that version again, or use another --out"
            )
        row = found_row(work.clip, clip, prediction.outputs, prediction.version, self.metadata, self._options)
        return work, row

    async def _infer(self, inputs: Inputs) -> Prediction:
        """Run inference, and retry if the engine may recover, so that a server restart does not fail clips."""
        while True:
            try:
                prediction = await self._model.infer(inputs)
            except (EngineOverloadedError, EngineUnavailableError, EngineTimeoutError) as error:
                if time.monotonic() - self._last_answer > self._patience:
                    raise
                log.warning("retrying inference: %s", error)
                await asyncio.sleep(getattr(error, "retry_after", 1))
            else:
                self._last_answer = time.monotonic()
                return prediction
