"""The in-process engine: ONNX Runtime behind a micro-batcher."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime as ort

from sefar_serve.cores import limited_cores
from sefar_serve.engine.base import Inputs, Outputs, Prediction, check_inputs, check_name
from sefar_serve.engine.batcher import MicroBatcher
from sefar_serve.engine.errors import EngineUnavailableError, ModelLoadError
from sefar_serve.metadata import MetadataError, ModelMetadata

log = logging.getLogger(__name__)

Device = Literal["auto", "cpu", "cuda"]

_TENSOR_TYPES = {np.dtype(np.uint8): "tensor(uint8)", np.dtype(np.float32): "tensor(float)"}


class OnnxModel:
    """A SeFAR ONNX file, loaded and checked. Blocking; `OnnxEngine` makes it asynchronous.

    Args:
        path: the ONNX file.
        device: ``cuda`` needs the onnxruntime-gpu package; ``auto`` uses CUDA if it is available.
        threads: intra-op threads; 0 uses every core that this process may use.

    Raises:
        ModelLoadError: the file is missing, is not ONNX, or is not a SeFAR model, or the device
            is not available.
    """

    def __init__(self, path: str | os.PathLike[str], *, device: Device = "auto", threads: int = 0) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise ModelLoadError(f"no model file at {self.path}; set `model` (--model, SEFAR_MODEL) to an ONNX file")
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads or limited_cores()
        # Otherwise idle intra-op threads spin and take cores from the decoding threads.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = ort.InferenceSession(self.path, options, providers=_providers(device))
        # ONNX Runtime raises a class per status code, all plain Exception subclasses of its C extension.
        except Exception as error:
            raise ModelLoadError(f"{self.path} cannot be loaded as an ONNX model: {error}") from error
        self._check_device(device)
        try:
            self.metadata = ModelMetadata.from_props(self._session.get_modelmeta().custom_metadata_map, str(self.path))
        except MetadataError as error:
            raise ModelLoadError(str(error)) from error
        self._check_interface()

    @property
    def provider(self) -> str:
        """The ONNX Runtime execution provider in use, e.g. ``CPUExecutionProvider``."""
        return str(self._session.get_providers()[0])

    def _check_device(self, device: Device) -> None:
        """ONNX Runtime only logs an error, and runs on the CPU, if CUDA's libraries or the GPU cannot be used.

        Raises:
            ModelLoadError: the device is ``cuda``, but the model is on another one.
        """
        on_gpu = self.provider == "CUDAExecutionProvider"
        if device == "cuda" and not on_gpu:
            raise ModelLoadError(
                f"device 'cuda' cannot be used, the model would run with {self.provider}: the GPU, its driver or a "
                "library of CUDA or cuDNN is missing, see the error of onnxruntime above; fix it, or set device to cpu"
            )
        if device == "auto" and not on_gpu and "CUDAExecutionProvider" in ort.get_available_providers():
            log.warning("CUDA cannot be used, see the error of onnxruntime above; %s runs on the CPU", self.path)

    def run(self, inputs: Inputs) -> Outputs:
        """Run a batch.

        Args:
            inputs: as in `ModelMetadata.inputs` with a batch axis in front, e.g. ``frames`` uint8 (B,F,H,W,3).
        """
        return Outputs(*self._session.run(list(self.metadata.output_shapes), dict(inputs)))

    def warm_up(self, batch: int = 1) -> None:
        """Run one batch of zeros, so that the first request does not wait for memory allocation."""
        self.run(self.metadata.zeros(batch))

    def _check_interface(self) -> None:
        found = {node.name: node for node in [*self._session.get_inputs(), *self._session.get_outputs()]}
        for name, (dtype, shape) in self.metadata.tensors.items():
            if name not in found:
                raise ModelLoadError(f"{self.path} has no tensor {name!r}; export the model again with `sefar export`")
            dims, kind = tuple(found[name].shape), found[name].type
            if dims[1:] != shape or kind != _TENSOR_TYPES[dtype]:
                raise ModelLoadError(
                    f"{self.path}: tensor {name!r} is {kind} {dims}, but the file's metadata says "
                    f"{_TENSOR_TYPES[dtype]} ('batch', {', '.join(map(str, shape))}); "
                    "export the model again with `sefar export`"
                )
        unknown = sorted({node.name for node in self._session.get_inputs()} - self.metadata.inputs.keys())
        if unknown:
            raise ModelLoadError(
                f"{self.path} takes {unknown[0]!r}, but the file's metadata says that a model with the stream "
                f"{self.metadata.stream!r} takes only {' and '.join(self.metadata.inputs)}; "
                "export the model again with `sefar export`"
            )


def _providers(device: Device) -> list[Any]:
    available = ort.get_available_providers()
    if device == "cuda" and "CUDAExecutionProvider" not in available:
        raise ModelLoadError(
            "device 'cuda' is not available: the installed onnxruntime has no CUDA support; "
            "install sefar-serve[gpu] in an environment without onnxruntime"
        )
    if device != "cpu" and "CUDAExecutionProvider" in available:
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]
    return ["CPUExecutionProvider"]


class OnnxEngine:
    """Serves one ONNX file in this process. See `sefar_serve.engine.base.Engine`.

    Args:
        model: the loaded file.
        max_batch: maximum number of clips in one inference.
        max_wait: seconds that the first clip of a batch waits for others.
        max_queue: maximum number of clips waiting; more are refused.
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
        """The served model's description."""
        return self._model.metadata

    @property
    def models(self) -> tuple[OnnxEngine, ...]:
        """Only this engine: one file, one model."""
        return (self,)

    def model(self, name: str | None) -> OnnxEngine:
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
