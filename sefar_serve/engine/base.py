"""The one interface between a clip that is ready and the models, wherever they run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sefar_serve.engine.errors import InferenceError, ModelNotFoundError
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
        version: of the weights that answered.
        queue_seconds: time spent waiting for a batch to start; 0 where a remote server does not tell.
        inference_seconds: time the batch took in the model; of a remote one, the whole round trip.
        batch_size: number of clips that shared the batch; 1 where a remote server does not tell.
    """

    outputs: Outputs
    version: str
    queue_seconds: float
    inference_seconds: float
    batch_size: int


class Model(Protocol):
    """One model that can be asked. Safe to call from many tasks of one event loop."""

    @property
    def metadata(self) -> ModelMetadata:
        """The model's own description."""

    async def infer(self, frames: NDArray[np.uint8]) -> Prediction:
        """Run the model on one clip.

        Args:
            frames: uint8 (F, H, W, 3) RGB in element order, as `ModelMetadata.frames_shape` says.

        Raises:
            EngineOverloadedError: the queue is full; nothing was started.
            EngineUnavailableError: not started, closing, or not reachable.
            EngineTimeoutError: the model took too long.
            InferenceError: the model failed on this clip.
        """


class Engine(Protocol):
    """Runs one model or several."""

    @property
    def models(self) -> Sequence[Model]:
        """What can be asked for, the default first; empty while none is known."""

    @property
    def queue_depth(self) -> int:
        """Clips accepted and not yet started; where a remote server does not tell, not yet answered."""

    def model(self, name: str | None) -> Model:
        """Find a model.

        Args:
            name: of the model, or ``name:version`` for one version of it; None for the default.

        Raises:
            ModelNotFoundError: there is no such model.
            EngineUnavailableError: no model is known yet.
        """

    async def start(self) -> None:
        """Make the engine ready, or let it go on trying where the model runs elsewhere.

        Raises:
            EngineError: if it can never become ready.
        """

    async def close(self) -> None:
        """Finish what was accepted, then release everything. Safe to call twice."""

    async def check(self) -> None:
        """Prove that the default model answers, by a recent answer or by asking it.

        Raises:
            EngineError: if it does not.
        """


def check_frames(frames: NDArray[np.uint8], metadata: ModelMetadata) -> None:
    """Refuse frames that the model does not take.

    Raises:
        InferenceError: if shape or dtype is wrong.
    """
    if frames.shape != metadata.frames_shape or frames.dtype != np.uint8:
        raise InferenceError(f"the model takes uint8 {metadata.frames_shape}, got {frames.dtype} {frames.shape}")


def check_name(name: str | None, metadata: ModelMetadata) -> None:
    """Refuse a name that the only model does not have.

    Args:
        name: ``name`` or ``name:version``; None fits every model.
        metadata: of the model.

    Raises:
        ModelNotFoundError: if it names another model or version.
    """
    if name not in (None, metadata.name, f"{metadata.name}:{metadata.version}"):
        raise ModelNotFoundError(
            f"there is no model {name!r} here; this is {metadata.name!r}, version {metadata.version}"
        )
