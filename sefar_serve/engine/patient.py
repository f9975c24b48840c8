"""A model that retries while it is overloaded or unavailable, instead of raising at once."""

from __future__ import annotations

import asyncio
import logging
import time

from sefar_serve.engine.base import Inputs, Model, Prediction
from sefar_serve.engine.errors import EngineError
from sefar_serve.metadata import ModelMetadata

log = logging.getLogger(__name__)

PATIENCE = 120.0
"""Seconds for which requests to an overloaded or unavailable model are retried; a server restart takes less."""


class PatientModel:
    """Runs a model and retries errors that are temporary. See `sefar_serve.engine.base.Model`.

    Args:
        model: the model to run.
        slots: limits the clips in flight, across all models that share it.
    """

    def __init__(self, model: Model, slots: asyncio.Semaphore) -> None:
        self._model = model
        self._slots = slots

    @property
    def metadata(self) -> ModelMetadata:
        """The model's description."""
        return self._model.metadata

    async def infer(self, inputs: Inputs) -> Prediction:
        """Run the model on one clip; see `Model.infer`."""
        async with self._slots:
            until = time.monotonic() + PATIENCE
            while True:
                try:
                    return await self._model.infer(inputs)
                except EngineError as error:
                    if error.retry_after is None or time.monotonic() > until:
                        raise
                    log.warning("%s; retrying in %d s", error, error.retry_after)
                    await asyncio.sleep(error.retry_after)
