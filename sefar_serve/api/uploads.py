"""A deadline and a least rate for the bodies of requests, and a limit on the memory of all of them."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sefar_serve.engine import EngineOverloadedError
from sefar_serve.errors import SefarError
from sefar_serve.fetch.fetcher import SPOOL_BYTES

GRACE = 20.0
"""Seconds that a client may send nothing, whatever its rate."""


class UploadTooSlowError(SefarError):
    """The body of a request did not arrive in time, or came too slowly."""

    status = 408
    code = "upload_too_slow"


@dataclass(frozen=True)
class UploadLimits:
    """Limits on how long a body may take; the time in which the server does not read it does not count.

    Attributes:
        seconds: maximum time for the whole body.
        in_memory: maximum number of bytes of all bodies in memory.
        rate: least mean rate in bytes per second, after `GRACE`.
    """

    seconds: float
    rate: float
    in_memory: int

    def allowed(self, received: int) -> float:
        """Seconds that a body may have taken when so many bytes of it have arrived."""
        return min(self.seconds, GRACE + received / self.rate)


class UploadMiddleware:
    """Raises errors where the application reads a body that exceeds the limits.

    These are `UploadTooSlowError`, and `EngineOverloadedError` if the bodies of all requests hold too much memory. The
    application calls `request.state.hold` with the size of what it unpacks.

    Args:
        app: the application to wrap.
        limits: the limits.
    """

    def __init__(self, app: ASGIApp, limits: UploadLimits) -> None:
        self._app = app
        self._limits = limits
        self._held = 0

    @property
    def held(self) -> int:
        """Bytes that the bodies of all requests hold in memory, before they are parsed."""
        return self._held

    def _hold(self, more: int) -> None:
        if self._held + more > self._limits.in_memory:
            raise EngineOverloadedError(
                f"requests in progress hold {self._held} of {self._limits.in_memory} bytes of memory; try again later"
            )
        self._held += more

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        loop = asyncio.get_running_loop()
        received, held, waited, complete = 0, 0, 0.0, False
        # Videos in forms and raw bodies move to the disk when they are larger than this; JSON stays in memory.
        most = math.inf if _is_json(scope) else SPOOL_BYTES

        def hold(more: int) -> None:
            nonlocal held
            self._hold(more)
            held += more

        scope.setdefault("state", {})["hold"] = hold

        async def limited_receive() -> Message:
            nonlocal received, waited, complete
            if complete:  # what is left is the wait for the client's disconnect
                return await receive()
            started = loop.time()
            try:
                async with asyncio.timeout(self._limits.allowed(received) - waited):
                    message = await receive()
            except TimeoutError as error:
                took = waited + loop.time() - started
                raise UploadTooSlowError(
                    f"{received} bytes of the request arrived in {took:.0f} s, slower than this "
                    f"server allows ({self._limits.rate:g} bytes/s, {self._limits.seconds:g} s in all)"
                ) from error
            waited += loop.time() - started
            received += len(message.get("body", b""))
            if (more := int(min(received, most)) - held) > 0:
                hold(more)
            complete = not message.get("more_body", False)
            return message

        async def closing_send(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == UploadTooSlowError.status:
                message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
            await send(message)

        try:
            await self._app(scope, limited_receive, closing_send)
        finally:
            self._held -= held


def _is_json(scope: Scope) -> bool:
    return Headers(scope=scope).get("content-type", "").strip().lower().startswith("application/json")
