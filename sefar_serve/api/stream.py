"""Answers that are sent as they are written, as server-sent events."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

log = logging.getLogger(__name__)

LAST_WORDS = 2.0
"""Seconds that a client has after the deadline to read that it has passed."""


class EventStream(StreamingResponse):
    """Sends events, and in the end closes what they are made from, however it ends.

    Starlette leaves an iterator that it does not finish to the garbage collector, and waits for ever for a client
    that keeps the connection and does not read. Either would keep a place in the language model's queue.

    Args:
        events: the text of the events.
        source: what they are made from; closed even where no event was sent.
        deadline: by the event loop's clock; the events themselves are to end by then, sending them soon after.
    """

    def __init__(self, events: AsyncGenerator[str, None], source: AsyncGenerator[Any, None], deadline: float) -> None:
        # Proxies that gather an answer before they pass it on would make a stream of it no more.
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._events = events
        self._source = source
        self._deadline = deadline

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send them."""
        async with aclosing(self._source), aclosing(self._events):
            try:
                async with asyncio.timeout_at(self._deadline + LAST_WORDS):
                    await super().__call__(scope, receive, send)
            except TimeoutError:
                # Returning ends the connection: nothing more can be said to one who does not read.
                log.warning("a client did not read its answer in time")
