"""Inference through shared memory: one region for each clip in flight, reused for later clips."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from math import prod

from tritonclient.grpc.aio import InferenceServerClient, InferInput, InferRequestedOutput, InferResult
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from sefar_serve.engine.base import Inputs, Outputs
from sefar_serve.engine.errors import EngineOverloadedError
from sefar_serve.engine.triton.region import Region, abandoned
from sefar_serve.engine.triton.served import TritonModel
from sefar_serve.metadata import memory_layout

log = logging.getLogger(__name__)

Send = Callable[[TritonModel, list[InferInput], list[InferRequestedOutput], float], Awaitable[InferResult]]

CALL_SECONDS = 2.0
"""Timeout of calls that a healthy server answers at once."""


def status_of(error: InferenceServerException) -> str:
    """The gRPC status, e.g. ``UNAVAILABLE``."""
    return str(error.status() or "").rpartition(".")[2]


class RegionPool:
    """The shared memory regions of one engine.

    The server may still be running an abandoned request and may still write its answer. The region of such a request
    is not reused, and it is removed only when that can no longer happen.

    Args:
        client: the connection.
        send: sends one request.
        patience: seconds after which an abandoned request is no longer running.
    """

    def __init__(self, client: InferenceServerClient, send: Send, patience: float) -> None:
        self._client = client
        self._send = send
        self._patience = patience
        self._free: dict[int, list[Region]] = {}
        self._doubtful: list[tuple[float, Region]] = []
        self._swept = False

    async def exchange(self, model: TritonModel, inputs: Inputs, seconds: float) -> tuple[Outputs, str]:
        """Run one inference through a region, which holds the inputs and behind them the outputs."""
        region = await self._take(memory_layout(model.metadata.tensors)[1], seconds)
        settled = False
        try:
            answer = await self._through(region, model, inputs, seconds)
            settled = True
        except InferenceServerException as error:
            if "shared memory region" in str(error.message()).lower():
                # The server was restarted and does not know the region.
                await self._register(region, seconds)
                answer = await self._through(region, model, inputs, seconds)
                settled = True
            else:
                settled = status_of(error) not in ("DEADLINE_EXCEEDED", "UNAVAILABLE", "CANCELLED")
                raise
        finally:
            if settled:
                self._free.setdefault(region.size, []).append(region)
            else:
                self._doubtful.append((time.monotonic(), region))
        return answer

    async def _through(self, region: Region, model: TritonModel, inputs: Inputs, seconds: float) -> tuple[Outputs, str]:
        offsets, _ = memory_layout(model.metadata.tensors)
        given, wanted = [], []
        for name, values in inputs.items():
            region.write(values, offsets[name])
            given.append(InferInput(name, [1, *values.shape], np_to_triton_dtype(values.dtype)))
            given[-1].set_shared_memory(region.name, values.nbytes, offsets[name])
        shapes = model.metadata.output_shapes
        for name, shape in shapes.items():
            wanted.append(InferRequestedOutput(name))
            wanted[-1].set_shared_memory(region.name, 4 * prod(shape), offsets[name])
        result = await self._send(model, given, wanted, seconds)
        found = {name: region.read(offsets[name], shape) for name, shape in shapes.items()}
        return Outputs(**found), result.get_response().model_version

    async def tidy(self) -> None:
        """Remove regions whose requests can no longer be running."""
        if not self._swept:
            await self._sweep()
        while self._doubtful and time.monotonic() - self._doubtful[0][0] > self._patience:
            _, region = self._doubtful.pop(0)
            await self._remove(region)

    async def close(self) -> None:
        """Remove every region."""
        for region in [*(r for free in self._free.values() for r in free), *(r for _, r in self._doubtful)]:
            await self._remove(region)
        self._free.clear()
        self._doubtful.clear()

    async def _take(self, size: int, seconds: float) -> Region:
        if not self._swept:
            await self._sweep()
        if free := self._free.get(size):
            return free.pop()
        try:
            region = Region(size)
        except OSError as error:
            raise EngineOverloadedError(
                f"/dev/shm has no room for {size} bytes ({error.strerror}); enlarge it, or set "
                "SEFAR_TRITON_SHARED_MEMORY=false"
            ) from error
        try:
            await self._register(region, seconds)
        except BaseException:
            self._doubtful.append((time.monotonic(), region))
            raise
        return region

    async def _register(self, region: Region, seconds: float) -> None:
        await self._client.register_system_shared_memory(
            region.name, f"/{region.name}", region.size, client_timeout=seconds
        )

    async def _remove(self, region: Region) -> None:
        await self._unregister(region.name)
        region.remove()

    async def _unregister(self, name: str) -> None:
        try:
            await self._client.unregister_system_shared_memory(name, client_timeout=CALL_SECONDS)
        except InferenceServerException as error:
            # A server that is gone no longer has it registered.
            log.debug("region %s was not unregistered: %s", name, error)

    async def _sweep(self) -> None:
        """Remove regions that killed gateways left behind."""
        self._swept = True
        for path in abandoned():
            await self._unregister(path.name)
            path.unlink(missing_ok=True)
