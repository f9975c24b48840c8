"""Limits on connections, below HTTP: their number, the time for a request's headers, and clients that do not read.

Uvicorn limits none of these for a client that never finishes its first request.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sefar_serve.api.auth import PROBES
from sefar_serve.schemas.problem import ErrorResponse, Problem, problem

log = logging.getLogger(__name__)

PROBE_CONNECTIONS = 32
"""Connections above the limit that may still ask the probes, so that a full server is not restarted."""


@dataclass(frozen=True)
class ConnectionLimits:
    """Limits on the connections of one server.

    Attributes:
        most: maximum number of connections.
        header_seconds: time for the headers of a request.
        header_bytes: maximum size of the headers of a request.
        drain_seconds: time in which a client must read something of its answer, and time in which the body of a
            request that was answered early must end.
        prefix: path prefix of the application.
        refused: called for each connection that is refused because there are too many.
    """

    most: int
    header_seconds: float = 20.0
    header_bytes: int = 64 * 1024
    drain_seconds: float = 60.0
    prefix: str = ""
    refused: Callable[[], None] = lambda: None


def bounded_protocol(limits: ConnectionLimits) -> type[HttpToolsProtocol]:
    """Uvicorn's protocol with these limits, for its option `http`."""

    class BoundedProtocol(_BoundedProtocol):
        _limits = limits

    return BoundedProtocol


class _BoundedProtocol(HttpToolsProtocol):
    _limits: ConnectionLimits

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._header_timer: asyncio.TimerHandle | None = None
        self._drain_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._header_bytes = 0
        self._in_body = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self._limits.most + PROBE_CONNECTIONS:
            self._limits.refused()
            self._end_with(_too_many())
            return
        self._await_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._header_timer, self._drain_timer, self._write_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        self._header_bytes = 0
        self._await_headers()
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def _count(self, number: int) -> None:
        self._header_bytes += number
        if self._header_bytes > self._limits.header_bytes:
            raise ValueError("the headers are too large")  # the parser stops, and the request gets 400

    def on_headers_complete(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None
        self._in_body = True
        if len(self.connections) > self._limits.most and not self._is_probe():
            self._limits.refused()
            self._end_with(_too_many())
            return
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP, or has headers that are too large.

        Codes:
            invalid_http (400): The request is not valid HTTP, or its headers are larger than 64 KiB.
        """
        self._end_with(problem(400, "invalid_http", f"not a valid HTTP request, or its headers are too large: {msg}"))

    def on_body(self, body: bytes) -> None:
        if self.cycle is not None:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_body = False
        if self._drain_timer is not None:
            self._drain_timer.cancel()
            self._drain_timer = None
        if self.cycle is not None:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._in_body and not self.transport.is_closing():
            # An answer before the end of the body, such as a refusal: the rest is read and dropped, so that the client
            # reads the answer instead of a reset connection. But not for ever.
            self._drain_timer = self.loop.call_later(self._limits.drain_seconds, self.transport.abort)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._write_timer = self.loop.call_later(self._limits.drain_seconds, self._give_up_writing)

    def resume_writing(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None
        super().resume_writing()

    def _give_up_writing(self) -> None:
        log.warning("closed a connection because the client did not read its answer in time")
        self.transport.abort()

    def _await_headers(self) -> None:
        if self._header_timer is None:
            self._header_timer = self.loop.call_later(self._limits.header_seconds, self.transport.abort)

    def _is_probe(self) -> bool:
        path = self.url.partition(b"?")[0].decode("latin-1")
        return path.removeprefix(self._limits.prefix) in PROBES

    def _end_with(self, answer: Problem) -> None:
        body = ErrorResponse(error=answer.body).model_dump_json().encode()
        headers = {"content-type": "application/json", "content-length": str(len(body)), "connection": "close"}
        lines = [f"HTTP/1.1 {answer.status} -", *(f"{k}: {v}" for k, v in {**headers, **answer.headers}.items())]
        self.transport.write("\r\n".join([*lines, "", ""]).encode("ascii") + body)
        self.transport.close()


def _too_many() -> Problem:
    """The answer to a connection too many.

    Codes:
        too_many_connections (503): The server has as many connections as the operator allows.
    """
    return problem(
        503, "too_many_connections", "this server has too many connections; try again later", Retry_After="1"
    )
