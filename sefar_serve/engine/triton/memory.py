"""Inference through shared memory: a region for each clip under way, kept for the next one."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc.aio import InferenceServerClient, InferInput, InferRequestedOutput, InferResult
from tritonclient.utils import InferenceServerException

from sefar_serve.engine.base import Outputs
from sefar_serve.engine.errors import EngineOverloadedError
from sefar_serve.engine.triton.region import Region, abandoned
from sefar_serve.engine.triton.served import TritonModel
from sefar_serve.metadata import ModelMetadata

log = logging.getLogger(__name__)

Send = Callable[[TritonModel, InferInput, list[InferRequestedOutput], float], Awaitable[InferResult]]

CALL_SECONDS = 2.0
"""Deadline of questions that a server answers at once or not at all."""


def status_of(error: InferenceServerException) -> str:
    """The gRPC status, e.g. ``UNAVAILABLE``."""
    return str(error.status() or "").rpartition(".")[2]


class RegionPool:
    """Shared memory of one engine.

    A request that was given up may still be running, and its answer still be written. Its region is therefore not used
    again, and taken down only when that can no longer happen.

    Args:
        client: the connection.
        send: sends one request.
        patience: seconds after which a request that was given up is no longer running.
    """

    def __init__(self, client: InferenceServerClient, send: Send, patience: float) -> None:
        self._client = client
        self._send = send
        self._patience = patience
        self._free: dict[int, list[Region]] = {}
        self._doubtful: list[tuple[float, Region]] = []
        self._swept = False

    async def exchange(self, model: TritonModel, frames: NDArray[np.uint8], seconds: float) -> tuple[Outputs, str]:
        """One inference through a region."""
        region = await self._take(_layout(model.metadata)[1], seconds)
        settled = False
        try:
            answer = await self._through(region, model, frames, seconds)
            settled = True
        except InferenceServerException as error:
            if "shared memory region" in str(error.message()).lower():
                # The server was started anew and knows of no regions.
                await self._register(region, seconds)
                answer = await self._through(region, model, frames, seconds)
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

    async def _through(
        self, region: Region, model: TritonModel, frames: NDArray[np.uint8], seconds: float
    ) -> tuple[Outputs, str]:
        places, _ = _layout(model.metadata)
        region.write(frames)
        given = InferInput("frames", [1, *frames.shape], "UINT8")
        given.set_shared_memory(region.name, frames.nbytes)
        wanted = []
        for name, (offset, shape) in places.items():
            output = InferRequestedOutput(name)
            output.set_shared_memory(region.name, 4 * int(np.prod(shape)), offset)
            wanted.append(output)
        result = await self._send(model, given, wanted, seconds)
        values = {name: region.read(offset, shape) for name, (offset, shape) in places.items()}
        return Outputs(**values), result.get_response().model_version

    async def tidy(self) -> None:
        """Take down regions whose requests cannot be running any more."""
        if not self._swept:
            await self._sweep()
        while self._doubtful and time.monotonic() - self._doubtful[0][0] > self._patience:
            _, region = self._doubtful.pop(0)
            await self._take_down(region)

    async def close(self) -> None:
        """Take down every region."""
        for region in [*(r for free in self._free.values() for r in free), *(r for _, r in self._doubtful)]:
            await self._take_down(region)
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
                f"there is no room for {size} bytes in /dev/shm ({error.strerror}); give it more, or turn "
                "SEFAR_TRITON_SHARED_MEMORY off"
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

    async def _take_down(self, region: Region) -> None:
        await self._forget(region.name)
        region.remove()

    async def _forget(self, name: str) -> None:
        try:
            await self._client.unregister_system_shared_memory(name, client_timeout=CALL_SECONDS)
        except InferenceServerException as error:
            # A server that is gone has forgotten it already.
            log.debug("region %s was not unregistered: %s", name, error)

    async def _sweep(self) -> None:
        """Take down what gateways that were killed have left."""
        self._swept = True
        for path in abandoned():
            await self._forget(path.name)
            path.unlink(missing_ok=True)


def _layout(metadata: ModelMetadata) -> tuple[dict[str, tuple[int, tuple[int, ...]]], int]:
    """Where each output lies in a region, behind the frames: offset and shape; and the region's size."""
    end = int(np.prod(metadata.frames_shape))
    end += -end % 64
    places = {}
    for name, shape in metadata.output_shapes.items():
        places[name] = (end, shape)
        end += 4 * int(np.prod(shape))
    return places, end
