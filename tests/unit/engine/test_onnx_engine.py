"""The in-process engine with a real ONNX file: loading, refusing, batching, health."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from sefar_serve.engine import EngineUnavailableError, InferenceError, ModelLoadError
from sefar_serve.engine.onnx import OnnxEngine, OnnxModel


@pytest.fixture(scope="module")
def model(untrained_model: Path) -> OnnxModel:
    return OnnxModel(untrained_model, device="cpu", threads=1)


def clips(model: OnnxModel, count: int) -> np.ndarray:
    shape = model.metadata.inputs["frames"].shape
    return np.random.default_rng(0).integers(0, 256, (count, *shape), np.uint8)


def test_the_file_describes_itself(model: OnnxModel) -> None:
    assert model.metadata.labels == ("a", "b", "c", "d")
    assert model.metadata.sample_frames == (2, 2, 4)
    assert model.provider == "CPUExecutionProvider"


def test_outputs_have_the_documented_shapes(model: OnnxModel) -> None:
    outputs = model.run({"frames": clips(model, 3)})
    meta = model.metadata
    assert outputs.logits.shape == (3, 4)
    assert outputs.embedding.shape == (3, meta.embedding_dim)
    assert outputs.tokens.shape == (3, 3, meta.token_dim)
    assert outputs.mc_logits.shape == (3, meta.mc_samples, 4)


def test_batched_answers_equal_single_ones(model: OnnxModel) -> None:
    async def run() -> None:
        engine = OnnxEngine(model, max_batch=4, max_wait=0.05)
        await engine.start()
        frames = clips(model, 10)
        together = await asyncio.gather(*(engine.infer({"frames": clip}) for clip in frames))
        assert max(prediction.batch_size for prediction in together) == 4
        for clip, prediction in zip(frames, together, strict=True):
            alone = model.run({"frames": clip[None]}).row(0)
            np.testing.assert_allclose(prediction.outputs.logits, alone.logits, atol=1e-4)
            np.testing.assert_allclose(prediction.outputs.tokens, alone.tokens, atol=1e-4)
        await engine.close()

    asyncio.run(run())


def test_a_clip_of_a_wrong_shape_is_refused_before_the_queue(model: OnnxModel) -> None:
    async def run() -> None:
        engine = OnnxEngine(model)
        await engine.start()
        shape = model.metadata.inputs["frames"].shape
        for wrong in (np.zeros((8, 32, 32, 3), np.uint8), np.zeros(shape, np.float32)):
            with pytest.raises(InferenceError, match="the model takes frames of uint8"):
                await engine.infer({"frames": wrong})
        with pytest.raises(InferenceError, match="the model takes frames, but got poses"):
            await engine.infer({"poses": np.zeros((8, 1, 15, 4), np.float32)})
        await engine.check()
        await engine.close()

    asyncio.run(run())


def test_health_follows_the_engine(model: OnnxModel) -> None:
    async def run() -> None:
        engine = OnnxEngine(model)
        with pytest.raises(EngineUnavailableError):
            await engine.check()
        await engine.start()
        await engine.check()
        await engine.close()
        with pytest.raises(EngineUnavailableError):
            await engine.check()

    asyncio.run(run())


def test_a_file_that_is_not_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="no model file"):
        OnnxModel(tmp_path / "absent.onnx")
    text = tmp_path / "text.onnx"
    text.write_text("not a model")
    with pytest.raises(ModelLoadError, match=r"text\.onnx cannot be loaded"):
        OnnxModel(text)


def test_a_file_that_contradicts_its_metadata_is_refused(untrained_model: Path, tmp_path: Path) -> None:
    proto = onnx.load(untrained_model)
    for prop in proto.metadata_props:
        if prop.key == "sefar.labels":
            prop.value = '["a", "b"]'
    wrong = tmp_path / "wrong.onnx"
    onnx.save(proto, wrong)
    with pytest.raises(ModelLoadError, match=r"'logits'.*metadata says"):
        OnnxModel(wrong)
    del proto.metadata_props[:]
    onnx.save(proto, wrong)
    with pytest.raises(ModelLoadError, match="sefar export"):
        OnnxModel(wrong)


def test_cuda_without_cuda_says_what_to_install(untrained_model: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"sefar-serve\[gpu\]"):
        OnnxModel(untrained_model, device="cuda")


def test_cuda_that_would_run_on_the_cpu_is_an_error(
    untrained_model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # ONNX Runtime with CUDA falls back to the CPU if a library is missing: here, it has CUDA in name only.
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    session = ort.InferenceSession
    monkeypatch.setattr(
        ort, "InferenceSession", lambda *given, providers: session(*given, providers=["CPUExecutionProvider"])
    )
    with pytest.raises(ModelLoadError, match="CUDA or cuDNN"):
        OnnxModel(untrained_model, device="cuda")
    assert OnnxModel(untrained_model, device="auto").provider == "CPUExecutionProvider"
    assert "runs on the CPU" in caplog.text
