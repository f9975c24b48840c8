"""Supports a proxy that serves the gateway under a path prefix, whether or not it strips the prefix from requests."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send


class ProxyPrefixMiddleware:
    """Sets ASGI's `root_path`, which links and `Location` are built from, and adds the prefix to stripped paths.

    ASGI requires the full path in the scope. Starlette's routes also match a stripped path, but its mounts do not.

    Args:
        app: the application to wrap.
        prefix: starts with a slash and does not end with one.
    """

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request under the prefix."""
        if scope["type"] == "http":
            path = scope["path"]
            stripped = path != self._prefix and not path.startswith(f"{self._prefix}/")
            scope["root_path"] = self._prefix
            if stripped:
                scope["path"] = self._prefix + path
        await self._app(scope, receive, send)


def path_below_prefix(scope: Scope) -> str:
    """The path of a request without the prefix."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))
