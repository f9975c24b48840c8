"""Which runtime is taken, and that both give the same outputs."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pose_models import BOTH, POSE, write_tiny_model

from sefar_serve.engine import ModelLoadError, choose
from sefar_serve.engine.choose import load_model
from sefar_serve.engine.loaded import LoadedModel
from sefar_serve.metadata import ModelMetadata
from sefar_serve.settings import Settings, shipped_model


def inputs_of(meta: ModelMetadata, count: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        name: rng.integers(0, 256, (count, *shape), dtype) if name == "frames" else rng.random((count, *shape), dtype)
        for name, (dtype, shape) in meta.inputs.items()
    }


def assert_close(found: LoadedModel, wanted: LoadedModel, tolerance: float) -> None:
    for batch in (1, 3, 2):
        inputs = inputs_of(wanted.metadata, batch)
        ours, theirs = found.run(inputs), wanted.run(inputs)
        for name in wanted.metadata.output_shapes:
            right = getattr(theirs, name)
            scale = max(1.0, float(np.abs(right).max()))
            np.testing.assert_allclose(getattr(ours, name), right, atol=tolerance * scale, rtol=0, err_msg=name)


def test_openvino_gives_the_outputs_of_onnx_runtime() -> None:
    ours, theirs = (load_model(shipped_model(), runtime=runtime) for runtime in ("openvino", "onnxruntime"))
    assert ours.metadata == theirs.metadata
    assert_close(ours, theirs, 1e-3)


@pytest.mark.parametrize("meta", [POSE, BOTH], ids=["pose", "both"])
def test_openvino_runs_joints(tmp_path: Path, meta: ModelMetadata) -> None:
    file = write_tiny_model(tmp_path / "model.onnx", meta)
    ours, theirs = (load_model(file, runtime=runtime) for runtime in ("openvino", "onnxruntime"))
    assert_close(ours, theirs, 1e-3)


def test_onnx_runtime_is_the_default(untrained_model: Path) -> None:
    assert load_model(untrained_model).provider.startswith("ONNX Runtime")
    assert Settings().runtime == "onnxruntime"


def test_auto_takes_the_fastest(
    untrained_model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for fastest in ("ONNX Runtime", "OpenVINO"):
        monkeypatch.setattr(choose, "_fastest", faster(fastest))
        with caplog.at_level(logging.INFO):
            assert load_model(untrained_model, device="cpu", runtime="auto").provider.startswith(fastest)
        assert f"{fastest}" in caplog.messages[-1] and "2.0 ms a clip" in caplog.messages[-1]


def faster(name: str) -> Callable[[LoadedModel], float]:
    return lambda model: 0.001 if model.provider.startswith(name) else 0.002


def test_auto_takes_what_is_installed(untrained_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for missing, taken in (("openvino", "ONNX Runtime"), ("onnxruntime", "OpenVINO")):
        monkeypatch.setattr(choose, "find_spec", lambda name, missing=missing: None if name == missing else name)
        assert load_model(untrained_model, device="cpu", runtime="auto").provider.startswith(taken)


def test_requests_that_contradict_each_other_are_refused(untrained_model: Path) -> None:
    with pytest.raises(ModelLoadError, match="precision 'bf16' needs OpenVINO"):
        load_model(untrained_model, runtime="onnxruntime", precision="bf16")
    with pytest.raises(ModelLoadError, match="OpenVINO does not run on CUDA"):
        load_model(untrained_model, runtime="openvino", device="cuda")


def test_bfloat16_is_close_or_refused(untrained_model: Path) -> None:
    exact = load_model(untrained_model, runtime="openvino")
    try:
        rough = load_model(untrained_model, runtime="openvino", precision="bf16")
    except ModelLoadError as error:
        assert "AVX-512 BF16" in str(error)
        return
    assert rough.provider == "OpenVINO, CPU, bf16"
    inputs = inputs_of(exact.metadata, 2)
    ours, theirs = rough.run(inputs).embedding, exact.run(inputs).embedding
    cosine = (ours * theirs).sum(axis=1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
    assert cosine.min() > 0.999
    assert (ours != theirs).any(), "bfloat16 was not used"


DROPPED_BY_ANOTHER_THREAD = """
import gc, signal, subprocess, sys, threading
from pathlib import Path
from sefar_serve.engine.choose import load_model

held = [load_model(Path(sys.argv[1]), runtime="openvino")]
thread = threading.Thread(target=lambda: (held.clear(), gc.collect()))
thread.start()
thread.join()
signal.signal(signal.SIGCHLD, lambda *_: None)
subprocess.run([sys.executable, "-c", ""], check=True)
"""


def test_a_model_dropped_by_another_thread_leaves_signal_handlers_their_stack(untrained_model: Path) -> None:
    subprocess.run([sys.executable, "-c", DROPPED_BY_ANOTHER_THREAD, untrained_model], check=True, timeout=60)
