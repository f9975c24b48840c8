"""The one interface between a clip that is ready and the model, wherever the model runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sefar_serve.metadata import ModelMetadata


@dataclass(frozen=True)
class Outputs:
    """What the graph computes for a batch of B clips, all float32; fields in the order of `OUTPUT_NAMES`.

    Attributes:
        logits: (B, K), unnormalised class scores.
        embedding: (B, 256), the clip embedding.
        tokens: (B, E, D), one vector per temporal element, the context last.
        mc_logits: (B, T, K), Monte-Carlo dropout samples of the head.
    """

    logits: NDArray[np.float32]
    embedding: NDArray[np.float32]
    tokens: NDArray[np.float32]
    mc_logits: NDArray[np.float32]

    def row(self, index: int) -> Outputs:
        """The outputs of one clip, without the batch axis."""
        return Outputs(self.logits[index], self.embedding[index], self.tokens[index], self.mc_logits[index])


@dataclass(frozen=True)
class Prediction:
    """One clip's outputs and what they cost.

    Attributes:
        outputs: shapes of `Outputs` without the batch axis.
        queue_seconds: time spent waiting for a batch to start.
        inference_seconds: time the batch took in the model.
        batch_size: number of clips that shared the batch.
    """

    outputs: Outputs
    queue_seconds: float
    inference_seconds: float
    batch_size: int


class Engine(Protocol):
    """Runs one model. Safe to call from many tasks of one event loop."""

    @property
    def metadata(self) -> ModelMetadata:
        """The served model's own description."""

    @property
    def queue_depth(self) -> int:
        """Clips accepted and not yet started."""

    async def start(self) -> None:
        """Make the engine ready; return after a first warm-up inference.

        Raises:
            EngineError: if it cannot become ready.
        """

    async def close(self) -> None:
        """Finish what was accepted, then release everything. Safe to call twice."""

    async def infer(self, frames: NDArray[np.uint8]) -> Prediction:
        """Run the model on one clip.

        Args:
            frames: uint8 (F, H, W, 3) RGB in element order, as `ModelMetadata.frames_shape` says.

        Raises:
            EngineOverloadedError: the queue is full; nothing was started.
            EngineUnavailableError: not started, closing, or not reachable.
            InferenceError: the model failed on this clip.
        """

    async def check(self) -> None:
        """Prove that the model answers, by a recent answer or by asking it.

        Raises:
            EngineError: if it does not.
        """
