"""How the gateway answers with errors: one handler, one shape."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from sefar_serve.errors import SefarError
from sefar_serve.schemas.problem import ErrorResponse, Problem, problem, problem_of


class ApiError(SefarError):
    """A request that cannot be served as it was sent.

    Attributes:
        status: HTTP status.
        code: machine-readable reason.
        param: the parameter at fault, if one is.
    """

    def __init__(self, status: int, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param


ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorResponse, "description": text}
    for status, text in {
        400: "malformed request",
        401: "no valid API key",
        403: "a URL of a host, or a path, that the operator does not allow",
        404: "no such model, clip or job",
        413: "too large or too long",
        415: "not a video, or a Content-Encoding that is not decoded",
        422: "a video that is empty or cannot be decoded",
        429: "overloaded; see Retry-After",
        501: "no language model here, or no batch jobs",
        502: "a URL that cannot be fetched",
        503: "the engine or the language model is not available; see Retry-After",
        504: "the request took too long",
    }.items()
}
"""OpenAPI's description of what every route about videos may answer instead."""


def _problem(error: Exception) -> Problem:
    """What to answer for an exception: one of ours, or one that the web framework raised."""
    match error:
        case HTTPException():
            code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
            return problem(error.status_code, code, str(error.detail), **dict(error.headers or {}))
        case RequestValidationError():
            return validation_problem(error.errors())
        case _:
            return problem_of(error)


def validation_problem(errors: object) -> Problem:
    """The first of pydantic's complaints, in words."""
    first = list(errors)[0] if isinstance(errors, (list, tuple)) else {}  # noqa: RUF015
    path = [str(part) for part in first.get("loc", ()) if part not in ("query", "body")]
    param = ".".join(path) or None
    message = first.get("msg", "the request is malformed")
    if first.get("type") == "extra_forbidden":
        message = "unknown parameter"
    return problem(400, "invalid_parameter", f"{param}: {message}" if param else message, param)


def response(told: Problem) -> JSONResponse:
    """The HTTP answer."""
    return JSONResponse(
        ErrorResponse(error=told.body).model_dump(), status_code=told.status, headers=dict(told.headers)
    )


def install_error_handlers(app: FastAPI) -> None:
    """Route every exception to one answer."""

    async def handle(_: Request, error: Exception) -> JSONResponse:
        return response(_problem(error))

    for kind in (SefarError, TimeoutError, HTTPException, RequestValidationError, Exception):
        app.add_exception_handler(kind, handle)
