"""API keys: if any key is set, every path requires one except the probes and the API documentation page."""

from __future__ import annotations

from fastapi.security import HTTPBearer
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from sefar_serve.api.errors import response
from sefar_serve.api.prefix import path_below_prefix
from sefar_serve.keys import ADMIN, INFER, JOBS, Key, KeyRing
from sefar_serve.schemas.problem import problem

PROBES = frozenset({"/healthz", "/readyz"})

OPEN_PATHS = PROBES | {"/docs", "/openapi.json"}
"""Probes send no key. Neither does a browser that opens the documentation page, where users can enter their key."""

OPEN_FOLDERS = ("/static-offline-docs/",)
"""Static files that the documentation page loads."""

BEARER = HTTPBearer(scheme_name="ApiKey", description="an API key of this gateway", auto_error=False)
"""Declares in the OpenAPI document how keys are sent; `ApiKeyMiddleware` checks them, on paths without a route too."""


class ApiKeyMiddleware:
    """Answers 401 unless the request carries ``Authorization: Bearer KEY``, and 403 if the key lacks the route's scope.

    Args:
        app: the application to protect.
        ring: the valid keys.
    """

    def __init__(self, app: ASGIApp, ring: KeyRing) -> None:
        self._app = app
        self._ring = ring

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on if its key may use the route, else answer 401 or 403."""
        if scope["type"] != "http" or _is_open(scope):
            await self._app(scope, receive, send)
            return
        key = self._known(Headers(scope=scope))
        if key is not None and key.may(wanted := _scope(path_below_prefix(scope))):
            scope.setdefault("state", {})["key"] = key.name
            await self._app(scope, receive, send)
            return
        if key is not None:
            refusal = problem(403, "insufficient_scope", f"the API key {key.name} lacks the scope `{wanted}`")
        else:
            refusal = problem(
                401,
                "invalid_api_key",
                "missing or invalid API key; send a valid one as 'Authorization: Bearer KEY'",
                WWW_Authenticate="Bearer",
            )
        await response(refusal)(scope, receive, send)

    def _known(self, headers: Headers) -> Key | None:
        scheme, _, key = headers.get("authorization", "").partition(" ")
        return self._ring.find(key.lstrip(" ")) if scheme.lower() == "bearer" else None


def _scope(path: str) -> str:
    """The scope that a path needs."""
    if path == "/metrics":
        return ADMIN
    return JOBS if path == "/v1/jobs" or path.startswith("/v1/jobs/") else INFER


def _is_open(scope: Scope) -> bool:
    path = path_below_prefix(scope)
    return path in OPEN_PATHS or path.startswith(OPEN_FOLDERS)
