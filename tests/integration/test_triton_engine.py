"""The remote engine against a real tritonserver: equal outputs, many clients, batching, released memory."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest

from sefar_serve.engine import EngineOverloadedError, InferenceError, ModelLoadError, ModelNotFoundError, Prediction
from sefar_serve.engine.base import Inputs, batch_of
from sefar_serve.engine.onnx import OnnxModel
from sefar_serve.engine.triton import TritonEngine, TritonOptions
from sefar_serve.engine.triton.region import FOLDER, PREFIX
from sefar_serve.metadata import OUTPUT_NAMES
from sefar_serve.triton_server.server import TritonServer


def clips(model: OnnxModel, count: int) -> list[Inputs]:
    shape = model.metadata.inputs["frames"].shape
    return [{"frames": frames} for frames in np.random.default_rng(0).integers(0, 256, (count, *shape), np.uint8)]


def with_engine(options: TritonOptions, work: Callable[[TritonEngine], Awaitable[None]]) -> None:
    async def run() -> None:
        engine = TritonEngine(options)
        await engine.start()
        try:
            await work(engine)
        finally:
            await engine.close()

    asyncio.run(run())


def regions() -> set[str]:
    return {path.name for path in FOLDER.glob(f"{PREFIX}*")}


def metric(triton: TritonServer, name: str) -> float:
    return sum(float(value) for value in re.findall(rf"^{name}\{{.*\}} (\S+)$", triton.metrics(), re.MULTILINE))


@pytest.fixture(scope="session")
def local(untrained_model: Path) -> OnnxModel:
    return OnnxModel(untrained_model, device="cpu")


@pytest.mark.parametrize("shared_memory", [False, True], ids=["grpc", "shared memory"])
def test_outputs_equal_those_in_process(triton: TritonServer, local: OnnxModel, shared_memory: bool) -> None:
    async def work(engine: TritonEngine) -> None:
        model = engine.model(None)
        assert model.metadata == local.metadata.model_copy(update={"version": "1"})
        for clip in clips(local, 3):
            got = await model.infer(clip)
            expected = local.run(batch_of([clip])).row(0)
            assert got.version == "1"
            for name in OUTPUT_NAMES:
                assert np.allclose(getattr(got.outputs, name), getattr(expected, name), atol=1e-5), name

    before = regions()
    with_engine(TritonOptions(triton.url, shared_memory=shared_memory), work)
    assert regions() == before


@pytest.mark.parametrize("shared_memory", [False, True], ids=["grpc", "shared memory"])
def test_64_clients_share_batches_and_get_their_own_outputs(
    triton: TritonServer, local: OnnxModel, shared_memory: bool
) -> None:
    given = clips(local, 64)
    expected = np.concatenate([local.run(batch_of(given[i : i + 8])).logits for i in range(0, 64, 8)])

    async def work(engine: TritonEngine) -> None:
        model = engine.model(None)

        async def client(number: int) -> None:
            for _ in range(3):
                got = await model.infer(given[number])
                assert np.allclose(got.outputs.logits, expected[number], atol=1e-5)

        await asyncio.gather(*map(client, range(64)))
        assert engine.queue_depth == 0

    clips_before, batches_before = (metric(triton, f"nv_inference_{kind}") for kind in ("count", "exec_count"))
    with_engine(TritonOptions(triton.url, shared_memory=shared_memory), work)
    done, batches = (metric(triton, f"nv_inference_{kind}") for kind in ("count", "exec_count"))
    print("mean batch", (done - clips_before) / (batches - batches_before))
    assert done - clips_before >= 192
    assert (done - clips_before) / (batches - batches_before) > 2


def test_clips_in_flight_are_limited(triton: TritonServer, local: OnnxModel) -> None:
    async def work(engine: TritonEngine) -> None:
        infer = engine.model(None).infer
        found = await asyncio.gather(*map(infer, clips(local, 9)), return_exceptions=True)
        refused = [result for result in found if isinstance(result, EngineOverloadedError)]
        assert len(refused) == 5
        assert sum(isinstance(result, Prediction) for result in found) == 4

    with_engine(TritonOptions(triton.url, max_inflight=4), work)


@pytest.mark.parametrize("shared_memory", [False, True], ids=["grpc", "shared memory"])
def test_cancelled_callers_leave_nothing_behind(triton: TritonServer, local: OnnxModel, shared_memory: bool) -> None:
    given = clips(local, 8)
    before = regions()

    async def work(engine: TritonEngine) -> None:
        model = engine.model(None)
        tasks = [asyncio.create_task(model.infer(clip)) for clip in given]
        await asyncio.sleep(0.005)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert engine.queue_depth == 0
        got = await model.infer(given[0])
        assert np.allclose(got.outputs.logits, local.run(batch_of(given[:1])).logits[0], atol=1e-5)

    with_engine(TritonOptions(triton.url, shared_memory=shared_memory), work)
    assert regions() == before


def test_names_and_versions(triton: TritonServer, local: OnnxModel) -> None:
    async def work(engine: TritonEngine) -> None:
        name = local.metadata.name
        assert [model.metadata.name for model in engine.models] == [name]
        bound = engine.model(f"{name}:1")
        assert (await bound.infer(clips(local, 1)[0])).version == "1"
        for wrong in ("other", f"{name}:2", f"{name}:"):
            with pytest.raises(ModelNotFoundError, match=rf"no model '{wrong}'; .*{name} \(1\)"):
                engine.model(wrong)
        with pytest.raises(ModelNotFoundError, match="version 7 of untrained is not served"):
            await engine.model(name).at("7").infer(clips(local, 1)[0])
        with pytest.raises(InferenceError, match=r"takes frames of uint8 \(8, 64, 64, 3\)"):
            await bound.infer({"frames": np.zeros((8, 32, 32, 3), np.uint8)})

    with_engine(TritonOptions(triton.url, models=("sefar_encoder",)), work)


def test_a_configuration_that_contradicts_itself_is_reported_at_start(own_triton: TritonServer) -> None:
    import tritonclient.grpc as grpc

    file = own_triton.repository / "sefar_encoder" / "configs" / "python.pbtxt"
    file.write_text(file.read_text().replace('\\"d\\"]', '\\"d\\", \\"e\\"]'))
    with grpc.InferenceServerClient(own_triton.url) as client:
        client.load_model("sefar_encoder")
    with pytest.raises(
        ModelLoadError, match=r"'logits' is TYPE_FP32 \(4,\), but its description says TYPE_FP32 \(5,\)"
    ):
        with_engine(TritonOptions(own_triton.url), lambda _: asyncio.sleep(0))
