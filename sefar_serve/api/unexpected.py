"""Answers unexpected errors inside the middlewares that add headers.

Starlette answers them outside all middlewares, so without a request id and without the CORS headers that let a
web page's script read the response.
"""

from __future__ import annotations

import asyncio

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sefar_serve.api.errors import disconnected, response
from sefar_serve.engine import EngineUnavailableError
from sefar_serve.schemas.problem import problem_of


class UnexpectedErrorMiddleware:
    """Turns an unexpected exception into a 500 response in the common error format.

    Args:
        app: the application to wrap.
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
        except ClientDisconnect:
            if not started:
                await response(disconnected())(scope, receive, noting_send)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if scope["type"] != "http" or started or (task is not None and task.cancelling()):
                raise
            # Not this request was cancelled but work that it waited for, because a part of the server is closing.
            stopped = EngineUnavailableError("the server stopped this request's work; try again later")
            await response(problem_of(stopped))(scope, receive, send)
        except Exception as error:
            if scope["type"] != "http" or started:
                raise  # the server closes the connection, so the client sees that the response is incomplete
            await response(problem_of(error))(scope, receive, send)
