"""Files at a lower precision: what is in them, that both runtimes take them, and when none is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from small_videos import encode
from typer.testing import CliRunner

from sefar_serve.cli.app import app
from sefar_serve.engine.choose import load_model
from sefar_serve.engine.loaded import LoadedModel, Runtime
from sefar_training import quantize
from sefar_training.evaluation import EvaluationError
from sefar_training.quantize import PrecisionError, quantize_file


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A list of 8 clips of 4 classes."""
    root = tmp_path_factory.mktemp("clips")
    for number in range(8):
        encode(root / f"{number}.mp4", 8, brightness=20 * number, step=1 + number)
    (root / "val.csv").write_text("".join(f"{number}.mp4 {number % 4}\n" for number in range(8)))
    return root / "val.csv"


@pytest.fixture(scope="module")
def int8(untrained_model: Path, clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("int8") / "int8.onnx"
    with pytest.MonkeyPatch.context() as patch:
        # The model is random, and an answer that changes by chance is an eighth of the accuracy.
        patch.setattr(quantize, "ALLOWED_TOP1", 1.0)
        patch.setattr(quantize, "ALLOWED_AUROC", 1.0)
        quantize_file(untrained_model, clips, clips.parent, out, progress=False)
    return out


def embeddings(model: LoadedModel) -> np.ndarray:
    frames = np.random.default_rng(0).integers(0, 256, (4, *model.metadata.inputs["frames"].shape), np.uint8)
    return model.run({"frames": frames}).embedding


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_int8_is_smaller_close_and_says_so(untrained_model: Path, int8: Path, runtime: Runtime) -> None:
    assert int8.stat().st_size < 0.5 * untrained_model.stat().st_size
    exact = load_model(untrained_model, runtime="onnxruntime")
    kept = load_model(int8, runtime="onnxruntime").metadata.quantization
    assert kept is not None and kept.precision == "int8" and kept.clips == 8
    model = load_model(int8, runtime=runtime)
    assert model.metadata.model_copy(update={"quantization": None}) == exact.metadata
    ours, theirs = embeddings(model), embeddings(exact)
    cosine = (ours * theirs).sum(axis=1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
    assert cosine.min() > 0.99
    assert cosine.min() < 1 - 1e-6, "nothing was quantised"


def test_products_with_weights_are_int8_and_the_rest_is_not(int8: Path) -> None:
    graph = onnx.load(int8).graph
    made_by = {output: node for node in graph.node for output in node.output}

    def in_int8(node: onnx.NodeProto) -> bool:
        return all(name in made_by and made_by[name].op_type == "DequantizeLinear" for name in node.input[:2])

    products = [node for node in graph.node if node.op_type in ("MatMul", "Conv")]
    assert sum(map(in_int8, products)) >= 20
    assert not in_int8(products[0]), "the input layer"
    assert not any(in_int8(node) for node in graph.node if node.op_type == "Gemm"), "the head"


def test_half_precision_is_close(untrained_model: Path, clips: Path, tmp_path: Path) -> None:
    report = quantize_file(untrained_model, clips, clips.parent, tmp_path / "half.onnx", "fp16", progress=False)
    assert report.before.top1 == report.after.top1 and report.bytes < 0.6 * untrained_model.stat().st_size
    half, exact = (load_model(file, runtime="onnxruntime") for file in (report.path, untrained_model))
    np.testing.assert_allclose(embeddings(half), embeddings(exact), atol=0.02)


def test_a_file_that_loses_accuracy_is_not_written(
    untrained_model: Path, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantize, "ALLOWED_TOP1", -0.01)  # so that equal accuracy counts as a loss
    out = tmp_path / "int8.onnx"
    with pytest.raises(PrecisionError, match=r"int8 loses too much accuracy on 8 clips: top-1 [\d.]+ % in fp32"):
        quantize_file(untrained_model, clips, clips.parent, out, progress=False)
    assert not out.exists()


def test_only_exported_files_in_float32_are_taken(int8: Path, clips: Path, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="is int8 already"):
        quantize_file(int8, clips, clips.parent, tmp_path / "out.onnx", progress=False)
    with pytest.raises(EvaluationError, match="export the checkpoint first"):
        quantize_file(tmp_path, clips, clips.parent, tmp_path / "out.onnx", progress=False)


def test_info_says_the_precision(int8: Path) -> None:
    found = CliRunner().invoke(app, ["info", str(int8)], terminal_width=200)
    assert found.exit_code == 0 and "int8; top-1 on 8 clips" in found.output
