"""A deadline and a least rate for the bodies of requests."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sefar_serve.errors import SefarError

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
        rate: least mean rate in bytes per second, after `GRACE`.
    """

    seconds: float
    rate: float

    def allowed(self, received: int) -> float:
        """Seconds that a body may have taken when so many bytes of it have arrived."""
        return min(self.seconds, GRACE + received / self.rate)


class UploadMiddleware:
    """Raises `UploadTooSlowError` where the application reads a body that exceeds the limits.

    Args:
        app: the application to wrap.
        limits: the limits.
    """

    def __init__(self, app: ASGIApp, limits: UploadLimits) -> None:
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        loop = asyncio.get_running_loop()
        received, waited, complete = 0, 0.0, False

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
            complete = not message.get("more_body", False)
            return message

        async def closing_send(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == UploadTooSlowError.status:
                message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
            await send(message)

        await self._app(scope, limited_receive, closing_send)
