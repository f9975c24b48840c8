"""Which runtime runs a model file: the one that was asked for, or the faster one of those that are installed."""

from __future__ import annotations

import logging
import time
from importlib.util import find_spec
from pathlib import Path

from sefar_serve.engine.errors import ModelLoadError
from sefar_serve.engine.loaded import Device, LoadedModel, Precision, Runtime
from sefar_serve.optional import needs_extra

log = logging.getLogger(__name__)

WARM_UPS = 5
"""Timed runs of each runtime; the fastest counts, so that other programs on the machine do not decide."""


def load_model(
    path: Path,
    *,
    device: Device = "auto",
    runtime: Runtime = "onnxruntime",
    precision: Precision = "fp32",
    threads: int = 0,
) -> LoadedModel:
    """Load a model file.

    Args:
        path: the ONNX file.
        device: ``auto`` uses CUDA if ONNX Runtime can.
        runtime: ``auto`` measures ONNX Runtime and OpenVINO if both are installed and the device is a CPU. Their
            results differ in the last digits, and OpenVINO's also with the size of the batch.
        precision: what float operations are computed with; ``bf16`` needs OpenVINO.
        threads: inference threads; 0 uses every core.

    Raises:
        ModelLoadError: the file cannot be loaded, or what was asked for does not fit together.
        ModuleNotFoundError: no runtime is installed, or not the one that was asked for.
    """
    if precision != "fp32" and (runtime == "onnxruntime" or device == "cuda"):
        raise ModelLoadError(
            f"precision {precision!r} needs OpenVINO on a CPU; set runtime (--runtime, SEFAR_RUNTIME) to openvino"
        )
    if runtime == "openvino" and device == "cuda":
        raise ModelLoadError("OpenVINO does not run on CUDA devices; use runtime 'onnxruntime' or device 'cpu'")
    if runtime == "openvino" or precision != "fp32":
        return _openvino(path, threads, precision)
    if runtime == "onnxruntime" or device == "cuda" or find_spec("openvino") is None:
        return _onnx(path, device, threads)
    if find_spec("onnxruntime") is None:
        return _openvino(path, threads, precision)
    first = _onnx(path, device, threads)
    if not first.runs_on_cpu:
        return first
    candidates = [first, _openvino(path, threads, precision)]
    seconds = {model.provider: _fastest(model) for model in candidates}
    best = min(candidates, key=lambda model: seconds[model.provider])
    log.info(
        "%s is the fastest runtime here: %s",
        best.provider,
        "; ".join(f"{provider} {1000 * value:.1f} ms a clip" for provider, value in seconds.items()),
    )
    return best


def _onnx(path: Path, device: Device, threads: int) -> LoadedModel:
    with needs_extra("cpu"):
        from sefar_serve.engine.onnx import OnnxModel
    return OnnxModel(path, device=device, threads=threads)


def _openvino(path: Path, threads: int, precision: Precision) -> LoadedModel:
    with needs_extra("openvino"):
        from sefar_serve.engine.openvino import OpenvinoModel
    return OpenvinoModel(path, threads=threads, precision=precision)


def _fastest(model: LoadedModel) -> float:
    """Seconds of the fastest run of one clip of zeros, after a first run that is not timed."""
    model.warm_up()
    seconds = []
    for _ in range(WARM_UPS):
        start = time.perf_counter()
        model.warm_up()
        seconds.append(time.perf_counter() - start)
    return min(seconds)
