"""The interface to the models, wherever they run: the inputs of a clip in, predictions out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sefar_serve.engine.errors import InferenceError, ModelNotFoundError
from sefar_serve.metadata import ModelMetadata

Inputs = Mapping[str, NDArray[Any]]
"""Inputs of a graph by name; dtypes and shapes of one clip are in `ModelMetadata.inputs`."""


@dataclass(frozen=True)
class Outputs:
    """The outputs of the graph for a batch of B clips, all float32.

    Attributes:
        logits: (B, K), unnormalised class scores.
        embedding: (B, 256), the clip embedding.
        tokens: (B, E, D), one vector per temporal element, the context last.
        mc_logits: (B, T, K), Monte-Carlo dropout samples of the head.
        familiarity: (B,), in [0, 1]: the share of held-out clips that were less typical; None if the graph does not
            have this output.
    """

    logits: NDArray[np.float32]
    embedding: NDArray[np.float32]
    tokens: NDArray[np.float32]
    mc_logits: NDArray[np.float32]
    familiarity: NDArray[np.float32] | None = None

    def row(self, index: int) -> Outputs:
        """The outputs of one clip, without the batch axis."""
        known = self.familiarity
        return Outputs(
            self.logits[index],
            self.embedding[index],
            self.tokens[index],
            self.mc_logits[index],
            None if known is None else np.asarray(known[index]),
        )


@dataclass(frozen=True)
class Prediction:
    """One clip's outputs and their timings.

    Attributes:
        outputs: shapes of `Outputs` without the batch axis.
        version: version of the weights that answered.
        queue_seconds: time spent waiting for a batch to start; 0 if a remote server does not report it.
        inference_seconds: time that the batch took in the model; for a remote server, the whole round trip.
        batch_size: number of clips in the batch; 1 if a remote server does not report it.
    """

    outputs: Outputs
    version: str
    queue_seconds: float
    inference_seconds: float
    batch_size: int


class Model(Protocol):
    """One served model. Safe to call from many tasks of one event loop."""

    @property
    def metadata(self) -> ModelMetadata:
        """The model's description."""

    async def infer(self, inputs: Inputs) -> Prediction:
        """Run the model on one clip.

        Args:
            inputs: without the batch axis, as in `ModelMetadata.inputs`, e.g. ``frames`` uint8 (F,H,W,3).

        Raises:
            EngineOverloadedError: the queue is full; nothing was started.
            EngineUnavailableError: the engine is not started, is closing, or cannot be reached.
            EngineTimeoutError: the model took too long.
            InferenceError: the model failed on this clip.
        """


class Engine(Protocol):
    """Runs one or more models."""

    @property
    def models(self) -> Sequence[Model]:
        """The served models, the default first; empty while none is known."""

    @property
    def queue_depth(self) -> int:
        """Number of clips accepted but not yet started; if a remote server does not report it, not yet answered."""

    def model(self, name: str | None) -> Model:
        """Find a model.

        Args:
            name: name of the model, or ``name:version`` for one version of it; None for the default model.

        Raises:
            ModelNotFoundError: there is no such model.
            EngineUnavailableError: no model is known yet.
        """

    async def start(self) -> None:
        """Make the engine ready; if the model runs on a remote server, keep trying to reach it in the background.

        Raises:
            EngineError: if it can never become ready.
        """

    async def close(self) -> None:
        """Finish accepted work, then release everything. Safe to call twice."""

    async def check(self) -> None:
        """Check that the default model answers: run it, unless there is a recent answer.

        Raises:
            EngineError: if it does not.
        """


def check_inputs(inputs: Inputs, metadata: ModelMetadata) -> None:
    """Check that a clip has the inputs that the model takes, in the right shapes and dtypes.

    Raises:
        InferenceError: an input is missing, unknown, or has another shape or dtype.
    """
    expected = metadata.inputs
    if inputs.keys() != expected.keys():
        raise InferenceError(
            f"the model takes {' and '.join(expected)}, but got {' and '.join(inputs) or 'nothing'}; "
            "see `ModelMetadata.inputs`"
        )
    for name, (dtype, shape) in expected.items():
        found = inputs[name]
        if found.shape != shape or found.dtype != dtype:
            raise InferenceError(f"the model takes {name} of {dtype} {shape}, but got {found.dtype} {found.shape}")


def batch_of(clips: Sequence[Inputs]) -> dict[str, NDArray[Any]]:
    """Stack the inputs of B clips of one model along a new first axis.

    Args:
        clips: at least one.
    """
    return {name: np.stack([clip[name] for clip in clips]) for name in clips[0]}


def check_name(name: str | None, metadata: ModelMetadata) -> None:
    """Check that a name means the only model.

    Args:
        name: ``name`` or ``name:version``; None means any model.
        metadata: description of the only model.

    Raises:
        ModelNotFoundError: if it names another model or version.
    """
    if name not in (None, metadata.name, f"{metadata.name}:{metadata.version}"):
        raise ModelNotFoundError(
            f"there is no model {name!r}; the available model (version) is {metadata.name} ({metadata.version})"
        )
