"""Streams answers as server-sent events."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

log = logging.getLogger(__name__)

READ_GRACE = 2.0
"""Seconds after the deadline for the client to read the timeout error."""


class EventStream(StreamingResponse):
    """Sends events, and always closes their source.

    Starlette leaves an unfinished iterator to the garbage collector, and waits forever for a client that keeps the
    connection open without reading. Both would block a slot of the language model's queue.

    Args:
        events: the text of the events.
        source: the generator that the events are made from; closed even if no event was sent.
        deadline: time by the event loop's clock when the events must end; sending may take `READ_GRACE` longer.
    """

    def __init__(self, events: AsyncGenerator[str, None], source: AsyncGenerator[Any, None], deadline: float) -> None:
        # Tell proxies not to buffer the response, which would defeat streaming.
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._events = events
        self._source = source
        self._deadline = deadline

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        async with aclosing(self._source), aclosing(self._events):
            try:
                async with asyncio.timeout_at(self._deadline + READ_GRACE):
                    await super().__call__(scope, receive, send)
            except TimeoutError:
                # Returning closes the connection. An error event would not reach a client that does not read.
                log.warning("closed a stream because the client did not read its answer in time")
