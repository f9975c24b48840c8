"""The in-process engine: a loaded model behind a micro-batcher."""

from __future__ import annotations

import asyncio
import time

from sefar_serve.engine.base import Inputs, Prediction, check_inputs, check_name
from sefar_serve.engine.batcher import MicroBatcher
from sefar_serve.engine.errors import EngineUnavailableError
from sefar_serve.engine.loaded import LoadedModel
from sefar_serve.metadata import ModelMetadata


class LocalEngine:
    """Serves one loaded model in this process. See `sefar_serve.engine.base.Engine`.

    Args:
        model: the loaded model.
        max_batch: maximum number of clips in one inference.
        max_wait: seconds that the first clip of a batch waits for others.
        max_queue: maximum number of clips waiting; more are refused.
        fresh_for: seconds for which a successful inference counts as proof of health.
    """

    def __init__(
        self,
        model: LoadedModel,
        *,
        max_batch: int = 8,
        max_wait: float = 0.001,
        max_queue: int = 256,
        fresh_for: float = 5.0,
    ) -> None:
        self._model = model
        self._max_batch = max_batch
        self._batcher = MicroBatcher(
            model.run, model.metadata.version, max_batch=max_batch, max_wait=max_wait, max_queue=max_queue
        )
        self._fresh_for = fresh_for
        self._last_success = -float("inf")

    @property
    def metadata(self) -> ModelMetadata:
        """The served model's description."""
        return self._model.metadata

    @property
    def models(self) -> tuple[LocalEngine, ...]:
        """Only this engine: one file, one model."""
        return (self,)

    def model(self, name: str | None) -> LocalEngine:
        """This engine, if the name is its model's; see `Engine.model`."""
        check_name(name, self.metadata)
        return self

    @property
    def queue_depth(self) -> int:
        """Number of clips accepted but not yet started."""
        return self._batcher.depth

    async def start(self) -> None:
        """Start batching; warm up with the largest batch, so that memory does not grow later."""
        await asyncio.to_thread(self._model.warm_up, self._max_batch)
        self._batcher.start()
        await self.check()

    async def close(self) -> None:
        """Finish accepted clips, then stop."""
        await self._batcher.close()

    async def infer(self, inputs: Inputs) -> Prediction:
        """Run the model on one clip; see `Model.infer`."""
        check_inputs(inputs, self.metadata)
        prediction = await self._batcher.submit(inputs)
        self._last_success = time.monotonic()
        return prediction

    async def check(self) -> None:
        """Check that the model answers: run it, unless there is an answer from the last `fresh_for` seconds."""
        if not self._batcher.alive:
            raise EngineUnavailableError("the engine is not running")
        if time.monotonic() - self._last_success > self._fresh_for:
            await self.infer(self.metadata.zero_clip)
