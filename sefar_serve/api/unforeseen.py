"""Errors that nobody foresaw, answered inside the middlewares that add headers.

Starlette answers them outside of every middleware: without a request id, and without the CORS headers that let
a page's script read the answer at all.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sefar_serve.api.errors import response
from sefar_serve.schemas.problem import problem_of


class UnforeseenErrorMiddleware:
    """Turns what the application raises into a 500 in the shape of every error.

    Args:
        app: what it wraps.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        started = False

        async def noting_send(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, noting_send)
        except Exception as error:
            if scope["type"] != "http" or started:
                raise  # the server ends the connection, which tells the client that the answer is not whole
            await response(problem_of(error))(scope, receive, send)
