"""The in-process engine and both runtimes with a real ONNX file: loading, refusing, batching, health."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from sefar_serve.engine import EngineUnavailableError, InferenceError, ModelLoadError
from sefar_serve.engine.choose import load_model
from sefar_serve.engine.loaded import LoadedModel, Runtime
from sefar_serve.engine.local import LocalEngine

RUNTIMES: tuple[Runtime, ...] = ("onnxruntime", "openvino")


@pytest.fixture(scope="module", params=RUNTIMES)
def runtime(request: pytest.FixtureRequest) -> Runtime:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def model(untrained_model: Path, runtime: Runtime) -> LoadedModel:
    return load_model(untrained_model, device="cpu", runtime=runtime, threads=1)


def clips(model: LoadedModel, count: int) -> np.ndarray:
    shape = model.metadata.inputs["frames"].shape
    return np.random.default_rng(0).integers(0, 256, (count, *shape), np.uint8)


def test_the_file_describes_itself(model: LoadedModel) -> None:
    assert model.metadata.labels == ("a", "b", "c", "d")
    assert model.metadata.sample_frames == (2, 2, 4)
    assert model.provider in ("ONNX Runtime, CPUExecutionProvider", "OpenVINO, CPU, fp32")
    assert model.runs_on_cpu


def test_outputs_have_the_documented_shapes(model: LoadedModel) -> None:
    outputs = model.run({"frames": clips(model, 3)})
    meta = model.metadata
    assert outputs.logits.shape == (3, 4)
    assert outputs.embedding.shape == (3, meta.embedding_dim)
    assert outputs.tokens.shape == (3, 3, meta.token_dim)
    assert outputs.mc_logits.shape == (3, meta.mc_samples, 4)


def test_batched_answers_equal_single_ones(model: LoadedModel) -> None:
    async def run() -> None:
        engine = LocalEngine(model, max_batch=4, max_wait=0.05)
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


def test_a_clip_of_a_wrong_shape_is_refused_before_the_queue(model: LoadedModel) -> None:
    async def run() -> None:
        engine = LocalEngine(model)
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


def test_health_follows_the_engine(model: LoadedModel) -> None:
    async def run() -> None:
        engine = LocalEngine(model)
        with pytest.raises(EngineUnavailableError):
            await engine.check()
        await engine.start()
        await engine.check()
        await engine.close()
        with pytest.raises(EngineUnavailableError):
            await engine.check()

    asyncio.run(run())


def test_a_file_that_is_not_a_model_is_refused(tmp_path: Path, runtime: Runtime) -> None:
    with pytest.raises(ModelLoadError, match="no model file"):
        load_model(tmp_path / "absent.onnx", runtime=runtime)
    text = tmp_path / "text.onnx"
    text.write_text("not a model")
    with pytest.raises(ModelLoadError, match=r"text\.onnx cannot be loaded"):
        load_model(text, runtime=runtime)


def test_a_file_that_contradicts_its_metadata_is_refused(
    untrained_model: Path, tmp_path: Path, runtime: Runtime
) -> None:
    proto = onnx.load(untrained_model)
    for prop in proto.metadata_props:
        if prop.key == "sefar.labels":
            prop.value = '["a", "b"]'
    wrong = tmp_path / "wrong.onnx"
    onnx.save(proto, wrong)
    with pytest.raises(ModelLoadError, match=r"'logits'.*metadata says"):
        load_model(wrong, runtime=runtime)
    del proto.metadata_props[:]
    onnx.save(proto, wrong)
    with pytest.raises(ModelLoadError, match="sefar export"):
        load_model(wrong, runtime=runtime)


def test_cuda_without_cuda_says_what_to_install(untrained_model: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"sefar-serve\[gpu\]"):
        load_model(untrained_model, device="cuda")


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
        load_model(untrained_model, device="cuda")
    assert load_model(untrained_model, device="auto", runtime="onnxruntime").runs_on_cpu
    assert "runs on the CPU" in caplog.text
