"""Cross-origin requests: web pages of the origins that the operator names may call the gateway."""

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
    "x-queue-time",
    "x-inference-time",
)
"""Response headers that a page's script can read; browsers hide all but a few others."""


def allow_origins(app: FastAPI, origins: Sequence[str]) -> None:
    """Answer preflights, and put the CORS headers on every answer, errors included.

    Add it after whatever asks for a key: browsers send none with a preflight.

    Args:
        app: the gateway.
        origins: as browsers send them, or `*`.
    """
    # Keys travel in a header and never in cookies, so pages need no credentials mode, and `*` is safe to combine.
    app.add_middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=METHODS,
        allow_headers=["*"],
        expose_headers=EXPOSED,
    )
