"""The work of one request: counted, bounded in time, and dropped when its client hangs up."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from fastapi import Request

from sefar_serve.api.errors import ApiError
from sefar_serve.api.gateway import Gateway
from sefar_serve.engine import EngineOverloadedError, Model
from sefar_serve.language import GeneratorOverloadedError
from sefar_serve.metadata import ModelMetadata
from sefar_serve.recognition import ClipInput, Recognised, Span

T = TypeVar("T")


async def recognise(
    request: Request, gateway: Gateway, inputs: Sequence[ClipInput], span: Span, model: Model
) -> list[Recognised | Exception]:
    """Look at a request's videos.

    Returns:
        In their order, what was found or what went wrong with this one.

    Raises:
        EngineOverloadedError: too many videos are being fetched or decoded.
    """
    try:
        here = await gateway.remote.arrived(inputs)
        results = await gateway.recognizer.recognise(here, model, span)
    except EngineOverloadedError:
        gateway.metrics.rejected.labels("decoding").inc()
        raise
    gateway.metrics.observe(results)
    request.state.timings.take(results)
    return results


@contextmanager
def counted(gateway: Gateway) -> Iterator[None]:
    """Count the requests that the language model has no place for."""
    try:
        yield
    except GeneratorOverloadedError:
        gateway.metrics.rejected.labels("generating").inc()
        raise


async def while_connected(request: Request, gateway: Gateway, work: Coroutine[Any, Any, T]) -> T:
    """Wait for the work, or drop it when the time is up or the client hangs up, so that it stops costing.

    Raises:
        TimeoutError: it took longer than a request may.
        ApiError: the client is gone.
    """
    task = asyncio.ensure_future(work)
    hang_up = asyncio.ensure_future(_hang_up(request))
    try:
        async with asyncio.timeout(gateway.settings.request_timeout):
            await asyncio.wait((task, hang_up), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ApiError(499, "client_disconnected", "the client closed the connection before the answer")
    finally:
        for pending in (task, hang_up):
            pending.cancel()


async def _hang_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def remember(gateway: Gateway, found: Recognised, meta: ModelMetadata) -> str | None:
    """Hold what was found in a clip, so that it can be asked about without being sent again.

    Returns:
        Its id; None where sliding windows make several clips of one video.
    """
    if len(found.windows) > 1:
        return None
    return gateway.clips.put(found.name, found.windows[0], meta).clip_id
