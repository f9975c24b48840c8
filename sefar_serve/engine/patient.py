"""A model whose callers wait where a server would send them away."""

from __future__ import annotations

import asyncio
import logging
import time

import numpy as np
from numpy.typing import NDArray

from sefar_serve.engine.base import Model, Prediction
from sefar_serve.engine.errors import EngineError
from sefar_serve.metadata import ModelMetadata

log = logging.getLogger(__name__)

PATIENCE = 120.0
"""Seconds for which a model that is overloaded or away is asked again: a server's restart takes less."""


class PatientModel:
    """Asks a model, and asks again while that makes sense. See `sefar_serve.engine.base.Model`.

    Args:
        model: to ask.
        places: clips that may be with it at a time, of all that share these places.
    """

    def __init__(self, model: Model, places: asyncio.Semaphore) -> None:
        self._model = model
        self._places = places

    @property
    def metadata(self) -> ModelMetadata:
        """The model's own description."""
        return self._model.metadata

    async def infer(self, frames: NDArray[np.uint8]) -> Prediction:
        """Run the model on one clip; see `Model.infer`."""
        async with self._places:
            until = time.monotonic() + PATIENCE
            while True:
                try:
                    return await self._model.infer(frames)
                except EngineError as error:
                    if error.retry_after is None or time.monotonic() > until:
                        raise
                    log.warning("asking again in %d s: %s", error.retry_after, error)
                    await asyncio.sleep(error.retry_after)
