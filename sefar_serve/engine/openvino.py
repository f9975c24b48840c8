"""A model file, run by OpenVINO: faster than ONNX Runtime on most CPUs, above all with bfloat16 or int8."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import openvino as ov

from sefar_serve.cores import limited_cores
from sefar_serve.engine.base import Inputs, Outputs
from sefar_serve.engine.errors import ModelLoadError
from sefar_serve.engine.loaded import Found, Precision, check_interface, model_file, not_loaded
from sefar_serve.metadata import PREFIX, MetadataError, ModelMetadata

_HINTS: dict[Precision, str] = {"fp32": "f32", "bf16": "bf16"}
_DTYPES: dict[str, np.dtype[Any]] = {"u8": np.dtype(np.uint8), "f32": np.dtype(np.float32)}


class OpenvinoModel:
    """A SeFAR ONNX file, loaded and checked. See `sefar_serve.engine.loaded.LoadedModel`.

    Args:
        path: the ONNX file.
        threads: inference threads; 0 lets OpenVINO use every core.
        precision: what float operations are computed with. ``bf16`` needs a CPU with AVX-512 BF16 or AMX. Operations
            that the file has in int8 stay in int8.

    Raises:
        ModelLoadError: the file is missing, is not ONNX, or is not a SeFAR model, or the CPU lacks the precision.
    """

    def __init__(self, path: str | os.PathLike[str], *, threads: int = 0, precision: Precision = "fp32") -> None:
        self.path = model_file(path)
        core = _core()
        if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise ModelLoadError("precision 'bf16' needs a CPU with AVX-512 BF16 or AMX; use precision 'fp32'")
        # OpenVINO would take bfloat16 by itself on a CPU that has it.
        options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": _HINTS[precision], "PERFORMANCE_HINT": "LATENCY"}
        if threads := threads or limited_cores():
            options["INFERENCE_NUM_THREADS"] = threads
        try:
            graph = core.read_model(self.path)
            self._compiled = core.compile_model(graph, "CPU", options)
        except RuntimeError as error:
            raise not_loaded(self.path, error) from error
        try:
            self.metadata = ModelMetadata.from_props(_props(graph), str(self.path))
        except MetadataError as error:
            raise ModelLoadError(str(error)) from error
        check_interface(self.path, self.metadata, _found(graph.inputs), _found(graph.outputs))
        self._precision = precision
        self._local = threading.local()  # a request belongs to one thread at a time

    @property
    def provider(self) -> str:
        """OpenVINO and what float operations are computed with, e.g. ``OpenVINO, CPU, fp32``."""
        return f"OpenVINO, CPU, {self._precision}"

    runs_on_cpu = True

    def run(self, inputs: Inputs) -> Outputs:
        """Run a batch; see `LoadedModel.run`."""
        if not hasattr(self._local, "request"):
            self._local.request = self._compiled.create_infer_request()
        found = self._local.request.infer(dict(inputs), share_inputs=True)
        return Outputs(*(found[name] for name in self.metadata.output_shapes))

    def warm_up(self, batch: int = 1) -> None:
        """Run one batch of zeros; OpenVINO compiles its kernels for a batch size when it sees the first of it."""
        self.run(self.metadata.zeros(batch))


@cache
def _core() -> ov.Core:
    """The only one of this process, which is never dropped.

    With its last user OpenVINO's CPU plugin frees the stack that it gave to the signal handlers of the thread that had
    loaded it. If another thread does that, the next signal with a handler kills the process.
    """
    return ov.Core()


def _props(graph: ov.Model) -> dict[str, str]:
    """The metadata of an ONNX file, which OpenVINO's reader keeps as ``framework``."""
    kept = graph.get_rt_info()["framework"] if graph.has_rt_info(["framework"]) else {}
    return {name: value.astype(str) for name, value in kept.items() if name.startswith(PREFIX)}


def _found(nodes: Sequence[Any]) -> dict[str, Found]:
    return {
        node.any_name: Found(
            _DTYPES.get(node.element_type.get_type_name(), node.element_type.get_type_name()),
            tuple("batch" if length.is_dynamic else length.get_length() for length in node.partial_shape),
        )
        for node in nodes
    }
