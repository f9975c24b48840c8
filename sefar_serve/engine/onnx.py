"""The in-process engine: ONNX Runtime behind a micro-batcher."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from sefar_serve.engine.base import Outputs, Prediction, check_frames, check_name
from sefar_serve.engine.batcher import MicroBatcher
from sefar_serve.engine.errors import EngineUnavailableError, ModelLoadError
from sefar_serve.metadata import OUTPUT_NAMES, MetadataError, ModelMetadata

Device = Literal["auto", "cpu", "cuda"]

_TENSOR_TYPES = {"frames": "tensor(uint8)"} | dict.fromkeys(OUTPUT_NAMES, "tensor(float)")


class OnnxModel:
    """A SeFAR ONNX file, loaded and checked. Blocking; `OnnxEngine` makes it asynchronous.

    Args:
        path: the ONNX file.
        device: ``cuda`` needs the onnxruntime-gpu package; ``auto`` takes CUDA where it works.
        threads: intra-op threads; 0 lets ONNX Runtime take every core.

    Raises:
        ModelLoadError: the file is missing, is not ONNX, or is not a SeFAR model, or there is no
            such device.
    """

    def __init__(self, path: str | os.PathLike[str], *, device: Device = "auto", threads: int = 0) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise ModelLoadError(f"no model file at {self.path}; give its path with --model or SEFAR_MODEL")
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        # Idle intra-op threads otherwise spin, taking cores from the decoding threads beside them.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = ort.InferenceSession(self.path, options, providers=_providers(device))
        # ONNX Runtime raises a class per status code, all plain Exception subclasses of its C extension.
        except Exception as error:
            raise ModelLoadError(f"{self.path} cannot be loaded as an ONNX model: {error}") from error
        try:
            self.metadata = ModelMetadata.from_props(self._session.get_modelmeta().custom_metadata_map, str(self.path))
        except MetadataError as error:
            raise ModelLoadError(str(error)) from error
        self._check_interface()

    @property
    def provider(self) -> str:
        """The ONNX Runtime execution provider in use, e.g. ``CPUExecutionProvider``."""
        return str(self._session.get_providers()[0])

    def run(self, frames_BFHWC: NDArray[np.uint8]) -> Outputs:
        """Run a batch.

        Args:
            frames_BFHWC: uint8 (B, F, H, W, 3) RGB in element order.
        """
        return Outputs(*self._session.run(list(OUTPUT_NAMES), {"frames": frames_BFHWC}))

    def warm_up(self, batch: int = 1) -> None:
        """Run one black batch, so that the first user does not pay for allocations."""
        self.run(np.zeros((batch, *self.metadata.frames_shape), np.uint8))

    def _check_interface(self) -> None:
        expected = {"frames": self.metadata.frames_shape, **self.metadata.output_shapes}
        found = {node.name: node for node in [*self._session.get_inputs(), *self._session.get_outputs()]}
        for name, shape in expected.items():
            if name not in found:
                raise ModelLoadError(f"{self.path} has no tensor {name!r}; `sefar export` writes files that have")
            dims, kind = tuple(found[name].shape), found[name].type
            if dims[1:] != shape or kind != _TENSOR_TYPES[name]:
                raise ModelLoadError(
                    f"{self.path}: tensor {name!r} is {kind} {dims}, but the file's metadata says "
                    f"{_TENSOR_TYPES[name]} ('batch', {', '.join(map(str, shape))})"
                )


def _providers(device: Device) -> list[Any]:
    available = ort.get_available_providers()
    if device == "cuda" and "CUDAExecutionProvider" not in available:
        raise ModelLoadError(
            "device 'cuda' was asked for, but this onnxruntime has no CUDA; install sefar-serve[gpu] "
            "in an environment without onnxruntime"
        )
    if device != "cpu" and "CUDAExecutionProvider" in available:
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]
    return ["CPUExecutionProvider"]


class OnnxEngine:
    """Serves one ONNX file in this process. See `sefar_serve.engine.base.Engine`.

    Args:
        model: the loaded file.
        max_batch: most clips in one inference.
        max_wait: seconds the first clip of a batch waits for company.
        max_queue: most clips waiting before new ones are refused.
        fresh_for: seconds for which a successful inference counts as proof of health.
    """

    def __init__(
        self,
        model: OnnxModel,
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
        """The served model's own description."""
        return self._model.metadata

    @property
    def models(self) -> tuple[OnnxEngine, ...]:
        """Itself alone: one file, one model."""
        return (self,)

    def model(self, name: str | None) -> OnnxEngine:
        """Itself, by its name; see `Engine.model`."""
        check_name(name, self.metadata)
        return self

    @property
    def queue_depth(self) -> int:
        """Clips accepted and not yet started."""
        return self._batcher.depth

    async def start(self) -> None:
        """Start batching; warm up with the largest batch, so that memory stops growing here."""
        await asyncio.to_thread(self._model.warm_up, self._max_batch)
        self._batcher.start()
        await self.check()

    async def close(self) -> None:
        """Finish what was accepted, then stop."""
        await self._batcher.close()

    async def infer(self, frames: NDArray[np.uint8]) -> Prediction:
        """Run the model on one clip; see `Model.infer`."""
        check_frames(frames, self.metadata)
        prediction = await self._batcher.submit(frames)
        self._last_success = time.monotonic()
        return prediction

    async def check(self) -> None:
        """Prove that the model answers; a clip answered a moment ago is proof enough."""
        if not self._batcher.alive:
            raise EngineUnavailableError("the engine is not running")
        if time.monotonic() - self._last_success > self._fresh_for:
            await self.infer(np.zeros(self.metadata.frames_shape, np.uint8))
