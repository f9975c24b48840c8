"""Inference through shared memory against a stand-in for the server: where inputs and outputs are."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from pose_models import BOTH, POSE

from sefar_serve.engine.triton.memory import RegionPool
from sefar_serve.engine.triton.region import FOLDER
from sefar_serve.engine.triton.served import TritonModel
from sefar_serve.metadata import ModelMetadata

pytestmark = pytest.mark.usefixtures("only_user_of_shared_memory")


class Registry:
    """Registers regions, as a server does."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    async def register_system_shared_memory(self, name: str, key: str, size: int, **_: Any) -> None:
        assert key == f"/{name}" and size % 64 == 0
        self.names.add(name)

    async def unregister_system_shared_memory(self, name: str, **_: Any) -> None:
        self.names.discard(name)


class Answer:
    class _Response:
        model_version = "7"

    def get_response(self) -> _Response:
        return self._Response()


def place(tensor: Any) -> tuple[str, int, int]:
    """Region, offset and bytes."""
    told = tensor._get_tensor().parameters
    offset = told["shared_memory_offset"].int64_param if "shared_memory_offset" in told else 0
    return told["shared_memory_region"].string_param, offset, told["shared_memory_byte_size"].int64_param


@pytest.mark.parametrize("meta", [POSE, BOTH], ids=["pose", "both"])
def test_inputs_and_outputs_lie_side_by_side(meta: ModelMetadata) -> None:
    rng = np.random.default_rng(0)
    clip = {name: (rng.normal(size=s) * 99).astype(dtype) for name, (dtype, s) in meta.inputs.items()}
    written = {name: rng.normal(size=shape).astype(np.float32) for name, shape in meta.output_shapes.items()}

    async def send(model: TritonModel, given: list[Any], wanted: list[Any], seconds: float) -> Answer:
        ends = []
        for tensor in given:
            region, offset, size = place(tensor)
            values = clip[tensor.name()]
            assert tensor.shape() == [1, *values.shape]
            assert (FOLDER / region).read_bytes()[offset : offset + size] == values.tobytes()
            ends.append((offset, offset + size))
        for tensor in wanted:
            region, offset, size = place(tensor)
            with (FOLDER / region).open("r+b") as file:
                file.seek(offset)
                assert file.write(written[tensor.name()].tobytes()) == size
            ends.append((offset, offset + size))
        assert all(offset % 64 == 0 for offset, _ in ends)
        assert all(end <= begin for (_, end), (begin, _) in pairwise(ends))
        return Answer()

    async def run() -> None:
        registry = Registry()
        pool = RegionPool(registry, send, patience=1.0)  # type: ignore[arg-type]
        model = TritonModel(None, "served", meta, ("7",))  # type: ignore[arg-type]
        for _ in range(2):  # the second one reuses the region
            outputs, version = await pool.exchange(model, clip, 1.0)
            assert version == "7" and len(registry.names) == 1
            for name, values in written.items():
                np.testing.assert_array_equal(getattr(outputs, name), values)
        await pool.close()
        assert not registry.names

    asyncio.run(run())
