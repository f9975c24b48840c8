"""The backend on this machine: decode processes feed one engine, in this process or a Triton server."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Iterable

import numpy as np
from numpy.typing import NDArray

from sefar_serve.engine import (
    EngineOverloadedError,
    EngineTimeoutError,
    EngineUnavailableError,
    InferenceError,
    Model,
    Prediction,
)
from sefar_serve.extract.clips import MixedModelError
from sefar_serve.extract.decoders import DecodeError, Decoders
from sefar_serve.extract.rows import ClipRow, RowOptions, failed_row, found_row
from sefar_serve.extract.run import Work
from sefar_serve.metadata import ModelMetadata

log = logging.getLogger(__name__)


def clips_at_once(max_batch: int, workers: int) -> int:
    """How many clips to have under way, so that neither the model nor the decoders wait for the other.

    One batch in the model and four ready or nearly so; with two, decoders stood still for a tenth of the time
    (benchmarks/extract.py). What they take is memory: 98 KB a clip at 64 px and 8 frames, 1.2 MB at 224 px.

    Args:
        max_batch: most clips in one inference.
        workers: decode processes.
    """
    return 5 * max_batch + 2 * workers


class LocalBackend:
    """See `sefar_serve.extract.run.Backend`.

    Args:
        model: of a started engine.
        decoders: started.
        options: what rows hold.
        sha256: of the model's file; None where a server runs it.
        at_once: clips under way; no more than the decoders have slots for can be decoded.
        patience: seconds without any answer of the engine after which the run ends; until then it is asked again.
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
        """Look at clips, several at once; rows come as they are ready."""
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
                prediction = await self._infer(clip.frames)
        except DecodeError as error:
            return work, failed_row(work.clip, error.code, str(error), self.metadata)
        except InferenceError as error:
            return work, failed_row(work.clip, "inference_failed", str(error), self.metadata)
        if prediction.version != self.metadata.version:
            raise MixedModelError(
                f"the server now answers with version {prediction.version} of {self.metadata.name}; this run began "
                f"with {self.metadata.version}: ask for one version, or take another --out"
            )
        row = found_row(work.clip, clip, prediction.outputs, prediction.version, self.metadata, self._options)
        return work, row

    async def _infer(self, frames: NDArray[np.uint8]) -> Prediction:
        """Ask the engine, again and again where it may come back: a clip is not at fault for a server's restart."""
        while True:
            try:
                prediction = await self._model.infer(frames)
            except (EngineOverloadedError, EngineUnavailableError, EngineTimeoutError) as error:
                if time.monotonic() - self._last_answer > self._patience:
                    raise
                log.warning("asking again: %s", error)
                await asyncio.sleep(getattr(error, "retry_after", 1))
            else:
                self._last_answer = time.monotonic()
                return prediction
