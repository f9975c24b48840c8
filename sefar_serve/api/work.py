"""Runs the work of a request: counts it, limits its time, and cancels it when the client disconnects."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from fastapi import Request

from sefar_serve.api.admission import key_of
from sefar_serve.api.errors import ApiError
from sefar_serve.api.gateway import Gateway
from sefar_serve.engine import EngineOverloadedError, Model
from sefar_serve.language import GeneratorOverloadedError
from sefar_serve.language.replies import Reply
from sefar_serve.metadata import ModelMetadata
from sefar_serve.recognition import ClipInput, Recognised, Span

T = TypeVar("T")


async def recognise(
    request: Request, gateway: Gateway, inputs: Sequence[ClipInput], span: Span, model: Model
) -> list[Recognised | Exception]:
    """Run the model on a request's videos.

    Returns:
        For each video, in order, its result or its error.

    Raises:
        EngineOverloadedError: too many videos are being fetched or decoded.
    """
    admission, key = gateway.admission, key_of(request.scope)
    unread: Sequence[ClipInput] = inputs
    try:
        with admission.videos.taken(key, len(inputs)):
            unread = fetched = await gateway.remote.arrived(inputs)
            async with admission.turns.turn(key, len(inputs)):
                unread = inputs[:0]  # the recognizer closes them
                results = await gateway.recognizer.recognise(fetched, model, span)
    except EngineOverloadedError as error:
        error.retry_after = max(error.retry_after or 1, admission.videos.seconds)
        gateway.metrics.rejected.labels("decoding").inc()
        raise
    finally:
        for item in unread:
            item.close()
    gateway.metrics.observe(results)
    if gateway.traces is not None:
        gateway.traces.videos(request.state.span, results)
    request.state.timings.add(results)
    return results


@contextmanager
def counted(gateway: Gateway) -> Iterator[None]:
    """Count requests that are refused because the language model's queue is full."""
    try:
        yield
    except GeneratorOverloadedError:
        gateway.metrics.rejected.labels("generating").inc()
        raise


def wrote(request: Request, gateway: Gateway, reply: Reply, started: float) -> None:
    """Count a text that was written, and add it to the request's trace.

    Args:
        request: asked for it.
        gateway: has the metrics and traces.
        reply: the text.
        started: when its writing began, in Unix seconds.
    """
    gateway.metrics.observe_reply(reply)
    if gateway.traces is not None:
        gateway.traces.text(request.state.span, started, time.time(), reply)


async def while_connected(request: Request, gateway: Gateway, work: Coroutine[Any, Any, T]) -> T:
    """Wait for the work. Cancel it after `request_timeout`, or when the client disconnects.

    Raises:
        TimeoutError: it took longer than `request_timeout`.
        ApiError: the client disconnected.
    """
    task = asyncio.ensure_future(work)
    disconnect = asyncio.ensure_future(_disconnected(request))
    try:
        async with asyncio.timeout(gateway.settings.request_timeout):
            await asyncio.wait((task, disconnect), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ApiError(499, "client_disconnected", "the client closed the connection before the answer")
    finally:
        for pending in (task, disconnect):
            pending.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def remember(gateway: Gateway, found: Recognised, meta: ModelMetadata) -> str | None:
    """Store a clip's result, so that users can ask about the clip without sending it again.

    Returns:
        The clip's id; None if sliding windows split the video into several clips.
    """
    if len(found.windows) > 1:
        return None
    return gateway.clips.put(found.name, found.windows[0], meta).clip_id
