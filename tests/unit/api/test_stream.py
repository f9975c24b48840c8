"""A stream closes its source however it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from sefar_serve.api.stream import READ_GRACE, EventStream

SCOPE: dict[str, Any] = {"type": "http", "asgi": {"spec_version": "2.3"}}


class Source:
    """Many numbers; records whether it was closed."""

    def __init__(self) -> None:
        self.closed = False

    async def numbers(self) -> AsyncGenerator[int, None]:
        try:
            for number in range(1_000_000):
                yield number
                await asyncio.sleep(0)
        finally:
            self.closed = True


async def events(source: AsyncGenerator[int, None]) -> AsyncGenerator[str, None]:
    yield "data: opening\n\n"
    while True:
        yield f"data: {await anext(source)}\n\n"


async def never() -> Any:
    await asyncio.Event().wait()


def stream(send: Any, receive: Any = never, left: float = 60.0) -> Source:
    """Send a stream whose first part is already available, `left` seconds before its deadline."""

    async def run() -> Source:
        source = Source()
        numbers = source.numbers()
        await anext(numbers)
        deadline = asyncio.get_running_loop().time() + left
        await EventStream(events(numbers), numbers, deadline)(SCOPE, receive, send)
        assert source.closed  # now, and not when the garbage is collected
        return source

    return asyncio.run(run())


def test_a_client_that_disconnects() -> None:
    sent: list[bytes] = []

    async def send(message: Any) -> None:
        sent.append(message.get("body", b""))
        await asyncio.sleep(0)

    async def receive() -> Any:
        while len(sent) < 5:
            await asyncio.sleep(0)
        return {"type": "http.disconnect"}

    stream(send, receive)
    assert sent[:4] == [b"", b"data: opening\n\n", b"data: 1\n\n", b"data: 2\n\n"]


def test_a_client_that_disconnects_before_the_first_byte() -> None:
    closed: list[bool] = []

    async def send(_: Any) -> None:
        raise OSError("no connection")

    async def run() -> None:
        source = Source()
        numbers = source.numbers()
        await anext(numbers)
        with pytest.raises(OSError, match="no connection"):
            await EventStream(events(numbers), numbers, asyncio.get_running_loop().time() + 60)(SCOPE, never, send)
        closed.append(source.closed)

    asyncio.run(run())
    assert closed == [True]


def test_a_client_that_does_not_read() -> None:
    sent = 0

    async def send(_: Any) -> None:
        nonlocal sent
        sent += 1
        if sent == 4:  # nothing more fits into the connection's buffers
            await never()

    stream(send, left=0.05 - READ_GRACE)
    assert sent == 4


def test_headers_prevent_buffering() -> None:
    headers = EventStream(events(Source().numbers()), Source().numbers(), 0.0).headers
    assert headers["content-type"].startswith("text/event-stream")
    assert headers["cache-control"] == "no-store"
    assert headers["x-accel-buffering"] == "no"
