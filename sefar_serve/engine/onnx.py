"""A model file, run by ONNX Runtime."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime as ort

from sefar_serve.cores import limited_cores
from sefar_serve.engine.base import Inputs, Outputs
from sefar_serve.engine.errors import ModelLoadError
from sefar_serve.engine.loaded import Device, Found, check_interface, model_file, not_loaded
from sefar_serve.metadata import MetadataError, ModelMetadata

log = logging.getLogger(__name__)

_DTYPES: dict[str, np.dtype[Any]] = {"tensor(uint8)": np.dtype(np.uint8), "tensor(float)": np.dtype(np.float32)}


class OnnxModel:
    """A SeFAR ONNX file, loaded and checked. See `sefar_serve.engine.loaded.LoadedModel`.

    Args:
        path: the ONNX file.
        device: ``cuda`` needs the onnxruntime-gpu package; ``auto`` uses CUDA if it is available.
        threads: intra-op threads; 0 uses every core that this process may use.

    Raises:
        ModelLoadError: the file is missing, is not ONNX, or is not a SeFAR model, or the device
            is not available.
    """

    def __init__(self, path: str | os.PathLike[str], *, device: Device = "auto", threads: int = 0) -> None:
        self.path = model_file(path)
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads or limited_cores()
        # Otherwise idle intra-op threads spin and take cores from the decoding threads.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = ort.InferenceSession(self.path, options, providers=_providers(device))
        # ONNX Runtime raises a class per status code, all plain Exception subclasses of its C extension.
        except Exception as error:
            raise not_loaded(self.path, error) from error
        self._check_device(device)
        try:
            self.metadata = ModelMetadata.from_props(self._session.get_modelmeta().custom_metadata_map, str(self.path))
        except MetadataError as error:
            raise ModelLoadError(str(error)) from error
        check_interface(
            self.path, self.metadata, _found(self._session.get_inputs()), _found(self._session.get_outputs())
        )

    @property
    def provider(self) -> str:
        """ONNX Runtime and its execution provider, e.g. ``ONNX Runtime, CPUExecutionProvider``."""
        return f"ONNX Runtime, {self._session.get_providers()[0]}"

    @property
    def runs_on_cpu(self) -> bool:
        """Whether the first execution provider is the CPU's."""
        return str(self._session.get_providers()[0]) == "CPUExecutionProvider"

    def _check_device(self, device: Device) -> None:
        """ONNX Runtime only logs an error, and runs on the CPU, if CUDA's libraries or the GPU cannot be used.

        Raises:
            ModelLoadError: the device is ``cuda``, but the model is on another one.
        """
        if device == "cuda" and self.runs_on_cpu:
            raise ModelLoadError(
                "device 'cuda' cannot be used, the model would run on the CPU: the GPU, its driver or a "
                "library of CUDA or cuDNN is missing, see the error of onnxruntime above; fix it, or set device to cpu"
            )
        if device == "auto" and self.runs_on_cpu and "CUDAExecutionProvider" in ort.get_available_providers():
            log.warning("CUDA cannot be used, see the error of onnxruntime above; %s runs on the CPU", self.path)

    def run(self, inputs: Inputs) -> Outputs:
        """Run a batch; see `LoadedModel.run`."""
        return Outputs(*self._session.run(list(self.metadata.output_shapes), dict(inputs)))

    def warm_up(self, batch: int = 1) -> None:
        """Run one batch of zeros, so that the first request does not wait for memory allocation."""
        self.run(self.metadata.zeros(batch))


def _found(nodes: Sequence[Any]) -> dict[str, Found]:
    return {node.name: Found(_DTYPES.get(node.type, node.type), tuple(node.shape)) for node in nodes}


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
