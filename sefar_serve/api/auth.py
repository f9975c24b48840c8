"""API keys: if any key is set, every path requires one except the probes and the API documentation page."""

from __future__ import annotations

import hmac
from collections.abc import Sequence

from fastapi.security import HTTPBearer
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from sefar_serve.api.errors import response
from sefar_serve.api.prefix import path_below_prefix
from sefar_serve.schemas.problem import problem

PROBES = frozenset({"/healthz", "/readyz"})

OPEN_PATHS = PROBES | {"/docs", "/openapi.json"}
"""Probes send no key. Neither does a browser that opens the documentation page, where users can enter their key."""

OPEN_FOLDERS = ("/static-offline-docs/",)
"""Static files that the documentation page loads."""

BEARER = HTTPBearer(scheme_name="ApiKey", description="an API key of this gateway", auto_error=False)
"""Declares in the OpenAPI document how keys are sent; `ApiKeyMiddleware` checks them, on paths without a route too."""


class ApiKeyMiddleware:
    """Answers 401 unless the request carries ``Authorization: Bearer KEY``.

    Args:
        app: the application to protect.
        keys: the valid keys.
    """

    def __init__(self, app: ASGIApp, keys: Sequence[str]) -> None:
        self._app = app
        self._keys = [key.encode() for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on if it has a valid key, else answer 401."""
        if scope["type"] != "http" or _is_open(scope) or self._known(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        refusal = problem(
            401,
            "invalid_api_key",
            "missing or invalid API key; send a valid one as 'Authorization: Bearer KEY'",
            WWW_Authenticate="Bearer",
        )
        await response(refusal)(scope, receive, send)

    def _known(self, headers: Headers) -> bool:
        scheme, _, key = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return False
        # Compare with every key, in constant time, so that response times reveal nothing about the keys.
        matches = [hmac.compare_digest(key.lstrip(" ").encode(), known) for known in self._keys]
        return any(matches)


def _is_open(scope: Scope) -> bool:
    path = path_below_prefix(scope)
    return path in OPEN_PATHS or path.startswith(OPEN_FOLDERS)
