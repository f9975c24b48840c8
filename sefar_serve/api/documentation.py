"""Corrects what FastAPI says about the API: the OpenAPI document, and HEAD for the documentation page."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute

_NEVER_SENT = ("HTTPValidationError", "ValidationError")
"""FastAPI documents a 422 in its own format for every parameter; the error handlers send 400 in ours instead."""


def correct_documentation(app: FastAPI) -> None:
    """Remove FastAPI's validation errors from the OpenAPI document, and let `/docs` answer HEAD.

    Args:
        app: the application with all its routes.
    """
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _corrected(generate())
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to change the document
    for route in app.routes:
        # Starlette's routes answer HEAD if they answer GET, FastAPI's do not.
        if isinstance(route, APIRoute) and not route.include_in_schema and route.path.startswith("/docs"):
            route.methods = {"GET", "HEAD"}


def _corrected(document: dict[str, Any]) -> dict[str, Any]:
    reference = f"#/components/schemas/{_NEVER_SENT[0]}"
    for operations in document["paths"].values():
        for operation in operations.values():
            answers = operation["responses"]
            content = answers.get("422", {}).get("content", {})
            if content.get("application/json", {}).get("schema") == {"$ref": reference}:
                del answers["422"]
    for name in _NEVER_SENT:
        document["components"]["schemas"].pop(name, None)
    return document
