"""Answers about videos: large ones are made and written as JSON in another thread, piece by piece.

A long video with many windows can have an answer of a hundred megabytes. Making it takes seconds, in which the event
loop must serve others: Python's lock is given up between pieces, and only one piece exists as objects.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from fastapi import Response
from pydantic import BaseModel
from starlette.types import Receive, Scope, Send

from sefar_serve.errors import SefarError

_RENDERING = ThreadPoolExecutor(1, "sefar-render")
"""One thread: making answers is pure Python, so more would only compete for its lock."""

SMALL = 64
"""Windows of an answer that is made at once, because a change of thread would take longer."""

_CHUNK = 256 * 1024
"""Bytes that are sent at once."""


class AnswerTooLargeError(SefarError):
    """The answer has more bytes than the operator allows."""

    status = 413
    code = "answer_too_large"

    def __init__(self, most: int) -> None:
        super().__init__(
            f"the answer would have more than {most} bytes; send fewer videos, ask for fewer labels (top_k) or fewer "
            "windows (a larger stride), or for base64 instead of floats"
        )


@dataclass(frozen=True)
class Entry:
    """One entry of an answer.

    Attributes:
        head: the entry without its windows.
        timeline: its windows, made one at a time; None if it has none.
    """

    head: BaseModel
    timeline: Iterable[BaseModel] | None = None

    def json(self) -> Iterator[bytes]:
        """The entry as JSON, in pieces."""
        if self.timeline is None:
            yield self.head.model_dump_json().encode()
            return
        yield self.head.model_dump_json(exclude={"timeline"}).encode()[:-1]
        yield from _list("timeline", ([window.model_dump_json().encode()] for window in self.timeline))


def _list(name: str, items: Iterable[Iterable[bytes]]) -> Iterator[bytes]:
    """The last field of an object, a list, and the end of the object."""
    yield f',"{name}":['.encode()
    for number, item in enumerate(items):
        if number:
            yield b","
        yield from item
    yield b"]}"


async def answered(envelope: BaseModel, entries: Iterable[Entry], *, windows: int, most: int) -> Response:
    """The response with an envelope and its entries.

    Args:
        envelope: the answer; its field `data` is ignored.
        entries: made one at a time, in another thread if there are many windows.
        windows: number of windows of all entries.
        most: maximum size of the answer in bytes.

    Raises:
        AnswerTooLargeError: it is larger.
    """

    def pieces() -> list[bytes]:
        made: list[bytes] = [envelope.model_dump_json(exclude={"data"}).encode()[:-1]]
        size = len(made[0])
        for piece in _list("data", (entry.json() for entry in entries)):
            size += len(piece)
            if size > most:
                raise AnswerTooLargeError(most)
            made.append(piece)
        return made

    if windows <= SMALL:
        return Response(b"".join(pieces()), media_type="application/json")
    return _PiecesResponse(await asyncio.get_running_loop().run_in_executor(_RENDERING, pieces))


class _PiecesResponse(Response):
    """Sends pieces as the client reads them."""

    media_type = "application/json"

    def __init__(self, pieces: list[bytes], headers: Mapping[str, str] | None = None) -> None:
        super().__init__(None, headers={"content-length": str(sum(map(len, pieces))), **(headers or {})})
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        chunk = bytearray()
        for piece in self._pieces:
            chunk += piece
            if len(chunk) >= _CHUNK:
                await send({"type": "http.response.body", "body": bytes(chunk), "more_body": True})
                chunk.clear()
        await send({"type": "http.response.body", "body": bytes(chunk), "more_body": False})
