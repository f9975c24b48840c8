"""Error responses of the gateway: one handler and one format."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import BaseRoute, Match, Mount

from sefar_serve.errors import SefarError
from sefar_serve.schemas.problem import ErrorResponse, Problem, problem, problem_of
from sefar_serve.validation import explain, location

_METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")


class ApiError(SefarError):
    """The request cannot be served as it was sent.

    Attributes:
        status: HTTP status.
        code: machine-readable error code.
        param: the invalid parameter, if there is one.

    Codes:
        clip_of_another_model (400): The clip behind a `clip_id` was processed by a model whose features the language
            model cannot read.
        invalid_json (400): The body is not a JSON object.
        invalid_manifest (400): The manifest's file name does not end in a supported extension, or its content cannot
            be read.
        invalid_multipart (400): The body is not a valid multipart form.
        invalid_parameter (400): A parameter is unknown or missing, or has an invalid value.
        missing_input (400): The request has no video, or no manifest.
        unsupported_parameter (400): The parameter is one of OpenAI's that this server does not support.
        invalid_api_key (401): The API key is missing or wrong.
        insufficient_scope (403): The API key may not use this route.
        model_not_found (404): The server has no model or captioner of that name or version.
        too_many_clips (413): The request or the job has more videos than the server accepts.
        unsupported_media_type (415): The body is JSON, but its Content-Type does not say so.
        client_disconnected (499): The client closed the connection before the answer.
        jobs_not_enabled (501): Batch jobs are disabled on this server.
        no_language_model (501): Captions are disabled on this server.
    """

    def __init__(self, status: int, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param


ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorResponse, "description": text}
    for status, text in {
        400: "invalid request",
        401: "missing or invalid API key",
        403: "the operator does not allow the URL's host or the path, or the API key lacks a scope",
        404: "no such model, clip or job",
        408: "the body came too slowly",
        413: "too large or too long",
        415: "not a video, or an unsupported Content-Encoding or Content-Type",
        422: "the video is empty or cannot be decoded",
        429: "overloaded; see Retry-After",
        501: "captions or batch jobs are not enabled on this server",
        502: "the URL cannot be fetched",
        503: "the model or the language model is unavailable; see Retry-After",
        504: "the request took too long",
    }.items()
}
"""OpenAPI descriptions of the error responses that all video routes share."""


def _problem(request: Request, error: Exception) -> Problem:
    """The error response for an exception, which is ours or the web framework's.

    Codes:
        not_found (404): The server has no such route.
        method_not_allowed (405): The route does not have this HTTP method.
    """
    match error:
        case ClientDisconnect():
            return disconnected()
        case HTTPException(status_code=404):
            path, docs = request.scope["path"], f"{_prefix(request)}/docs"
            return problem(404, "not_found", f"there is nothing at {path}; see {docs} for the API")
        case HTTPException(status_code=405):
            allowed = ", ".join(_allowed_methods(request))
            message = f"{request.method} is not allowed here; allowed: {allowed}"
            return problem(405, "method_not_allowed", message, Allow=allowed)
        case HTTPException():
            code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
            return problem(error.status_code, code, str(error.detail), **dict(error.headers or {}))
        case RequestValidationError():
            first = error.errors()[0]
            # FastAPI puts the part of the request first: query, path or header.
            return validation_problem({**first, "loc": first["loc"][1:]})
        case _:
            return problem_of(error)


def disconnected() -> Problem:
    """The outcome of a request whose client has gone; nobody reads it, but it is logged and counted."""
    return problem(499, "client_disconnected", "the client closed the connection before the end of its request")


def _prefix(request: Request) -> str:
    """The prefix of the application; within the static files, `root_path` has their folder too."""
    prefix: str = request.scope.get("app_root_path", request.scope.get("root_path", ""))
    return prefix


def _allowed_methods(request: Request) -> list[str]:
    """The methods of all routes of the request's path; the framework names only those of the first."""
    scope = {name: request.scope[name] for name in ("type", "path", "headers")} | {"root_path": _prefix(request)}

    def allows(route: BaseRoute, method: str) -> bool:
        if isinstance(route, Mount) and method not in ("GET", "HEAD"):  # static files, though it matches any method
            return False
        return route.matches({**scope, "method": method})[0] is Match.FULL

    return [method for method in _METHODS if any(allows(route, method) for route in request.app.routes)]


def validation_problem(error: Mapping[str, Any]) -> Problem:
    """The error response for one of pydantic's validation errors."""
    return problem(400, "invalid_parameter", explain(error), location(error) or None)


def response(found: Problem) -> JSONResponse:
    """The HTTP response for an error."""
    return JSONResponse(
        ErrorResponse(error=found.body).model_dump(), status_code=found.status, headers=dict(found.headers)
    )


def install_error_handlers(app: FastAPI) -> None:
    """Answer every exception in the same format."""

    async def handle(request: Request, error: Exception) -> JSONResponse:
        return response(_problem(request, error))

    for kind in (SefarError, TimeoutError, ClientDisconnect, HTTPException, RequestValidationError, Exception):
        app.add_exception_handler(kind, handle)
