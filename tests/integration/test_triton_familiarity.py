"""The fifth output through a real tritonserver: a number per clip, which Triton sends as a vector of one."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import onnx
import pytest

from sefar_serve.engine.base import Inputs, batch_of
from sefar_serve.engine.onnx import OnnxModel
from sefar_serve.engine.triton import TritonEngine, TritonOptions
from sefar_serve.triton_server.repository import publish
from sefar_serve.triton_server.server import TritonServer
from sefar_serve.triton_server.wheel import TritonHome
from sefar_training.familiarity import add_familiarity
from sefar_training.typical import fit_typical


@pytest.fixture
def noise(untrained_model: Path) -> list[Inputs]:
    shape = OnnxModel(untrained_model, device="cpu").metadata.inputs["frames"].shape
    return [{"frames": frames} for frames in np.random.default_rng(0).integers(0, 256, (44, *shape), np.uint8)]


@pytest.fixture
def knows_noise(untrained_model: Path, noise: list[Inputs], tmp_path: Path) -> Path:
    """A model to which noise is familiar."""
    plain = OnnxModel(untrained_model, device="cpu")
    tokens = plain.run(batch_of(noise[:40])).tokens.mean(axis=1)
    typical = fit_typical(tokens[:25], tokens[25:])
    proto = onnx.load(untrained_model)
    add_familiarity(proto, typical, plain.metadata.model_copy(update={"familiarity": typical.info}))
    file = tmp_path / "knows_noise.onnx"
    onnx.save(proto, file)
    return file


@pytest.mark.parametrize("shared_memory", [False, True], ids=["grpc", "shared memory"])
def test_familiarity_equals_that_in_process(
    triton_home: TritonHome, knows_noise: Path, noise: list[Inputs], tmp_path: Path, shared_memory: bool
) -> None:
    local = OnnxModel(knows_noise, device="cpu")
    given = [*noise[40:], local.metadata.zero_clip]
    expected = local.run(batch_of(given)).familiarity
    assert expected is not None
    assert expected[:4].min() > 0 and len(set(expected[:4])) > 1 and expected[4] == 0
    publish(knows_noise, tmp_path / "models")

    async def work(url: str) -> None:
        engine = TritonEngine(TritonOptions(url, shared_memory=shared_memory))
        await engine.start()
        try:
            assert engine.model(None).metadata.familiarity == local.metadata.familiarity
            # At the same time, so that the server batches them.
            found = await asyncio.gather(*(engine.model(None).infer(clip) for clip in given))
        finally:
            await engine.close()
        for got, share in zip(found, expected, strict=True):
            assert got.outputs.familiarity is not None
            assert got.outputs.familiarity.shape == ()
            assert got.outputs.familiarity == pytest.approx(float(share), abs=1e-3)

    with TritonServer(triton_home, tmp_path / "models", log=tmp_path / "log") as server:
        asyncio.run(work(server.url))
