"""API keys: when any is set, everything needs one but the probes and the page that describes the API."""

from __future__ import annotations

import hmac
from collections.abc import Sequence

from fastapi.security import HTTPBearer
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from sefar_serve.api.errors import response
from sefar_serve.api.prefix import path_below_prefix
from sefar_serve.schemas.problem import problem

OPEN_PATHS = frozenset({"/healthz", "/readyz", "/docs", "/openapi.json"})
"""Probes carry no key, and neither does a browser that opens the page on which one can be entered."""

OPEN_FOLDERS = ("/static-offline-docs/",)
"""What that page loads."""

BEARER = HTTPBearer(scheme_name="ApiKey", description="one of the gateway's keys", auto_error=False)
"""Declares in the OpenAPI document how keys are sent; `ApiKeyMiddleware` checks them, on paths without a route too."""


class ApiKeyMiddleware:
    """Answers 401 unless the request carries ``Authorization: Bearer KEY``.

    Args:
        app: what it guards.
        keys: the keys that open it.
    """

    def __init__(self, app: ASGIApp, keys: Sequence[str]) -> None:
        self._app = app
        self._keys = [key.encode() for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve or refuse."""
        if scope["type"] != "http" or _is_open(scope) or self._known(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        refusal = problem(
            401,
            "invalid_api_key",
            "send a valid key as 'Authorization: Bearer KEY'",
            WWW_Authenticate="Bearer",
        )
        await response(refusal)(scope, receive, send)

    def _known(self, headers: Headers) -> bool:
        scheme, _, key = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return False
        # Every key is compared, in constant time, so that the answer's timing tells nothing of them.
        matches = [hmac.compare_digest(key.encode(), known) for known in self._keys]
        return any(matches)


def _is_open(scope: Scope) -> bool:
    path = path_below_prefix(scope)
    return path in OPEN_PATHS or path.startswith(OPEN_FOLDERS)
