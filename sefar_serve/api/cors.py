"""Cross-origin requests (CORS): web pages of the origins that the operator lists may call the gateway."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

METHODS = ("GET", "HEAD", "POST", "DELETE")

EXPOSED = (
    "content-disposition",
    "location",
    "retry-after",
    "x-request-id",
    "x-total-time",
    "x-decode-time",
    "x-pose-time",
    "x-queue-time",
    "x-inference-time",
)
"""Response headers that a web page's script may read; browsers hide most others."""


def allow_origins(app: FastAPI, origins: Sequence[str]) -> None:
    """Answer preflight requests and add CORS headers to every response, including errors.

    Call it after adding the key check, so that this middleware is outside it: browsers send no key with a preflight.

    Args:
        app: the gateway application.
        origins: allowed origins as browsers send them, or `*`.
    """
    # Keys are sent in a header, never in cookies, so pages need no credentials mode and `*` is safe.
    app.add_middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=METHODS,
        allow_headers=["*"],
        expose_headers=EXPOSED,
    )
