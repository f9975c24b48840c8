"""Models of joints, and of pictures and joints, on a real tritonserver: equal outputs by value and through memory."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest
from pose_models import BOTH, POSE, write_tiny_model

from sefar_serve.engine.base import batch_of
from sefar_serve.engine.onnx import OnnxModel
from sefar_serve.engine.triton import TritonEngine, TritonOptions
from sefar_serve.metadata import OUTPUT_NAMES
from sefar_serve.triton_server.repository import publish
from sefar_serve.triton_server.server import TritonServer
from sefar_serve.triton_server.wheel import TritonHome


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[OnnxModel]:
    folder = tmp_path_factory.mktemp("models")
    return [OnnxModel(write_tiny_model(folder / f"{meta.name}.onnx", meta), device="cpu") for meta in (POSE, BOTH)]


@pytest.fixture(scope="module")
def server(
    triton_home: TritonHome, models: list[OnnxModel], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TritonServer]:
    folder = tmp_path_factory.mktemp("triton")
    for model in models:
        publish(model.path, folder / "models", model.metadata.name)
    with TritonServer(triton_home, folder / "models", log=folder / "log") as running:
        yield running


@pytest.mark.parametrize("shared_memory", [False, True], ids=["grpc", "shared memory"])
def test_outputs_equal_those_in_process(server: TritonServer, models: list[OnnxModel], shared_memory: bool) -> None:
    async def run() -> None:
        engine = TritonEngine(TritonOptions(server.url, shared_memory=shared_memory))
        await engine.start()
        try:
            for model in models:
                remote = engine.model(model.metadata.name)
                assert remote.metadata == model.metadata
                rng = np.random.default_rng(0)
                inputs = model.metadata.inputs.items()
                clips = [{name: (9 * rng.normal(size=s)).astype(dtype) for name, (dtype, s) in inputs} for _ in "abc"]
                found = await asyncio.gather(*map(remote.infer, clips))
                for clip, prediction in zip(clips, found, strict=True):
                    expected = model.run(batch_of([clip])).row(0)
                    for name in OUTPUT_NAMES:
                        np.testing.assert_allclose(
                            getattr(prediction.outputs, name), getattr(expected, name), rtol=1e-4, atol=1e-5
                        )
        finally:
            await engine.close()

    asyncio.run(run())
