"""One table from what can go wrong to what the user is told, and the one shape it is told in."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from sefar_serve.api.store import ClipNotFoundError
from sefar_serve.clip import (
    ClipError,
    ClipLimitError,
    ClipSpanError,
    EmptyVideoError,
    NotAVideoError,
    NoVideoStreamError,
    UndecodableVideoError,
)
from sefar_serve.engine import (
    EngineOverloadedError,
    EngineTimeoutError,
    EngineUnavailableError,
    InferenceError,
    ModelNotFoundError,
)
from sefar_serve.extract.clips import ExtractError
from sefar_serve.fetch import UrlFetchError, UrlNotAllowedError, UrlTimeoutError
from sefar_serve.jobs.errors import (
    IdempotencyKeyReusedError,
    JobError,
    JobHasNoRowsError,
    JobNotFinishedError,
    JobNotFoundError,
    JobsFullError,
    JobStorageError,
    PathNotAllowedError,
    TooManyClipsError,
)
from sefar_serve.language import (
    AdapterMismatchError,
    FeatureMismatchError,
    GenerationError,
    GeneratorOverloadedError,
    GeneratorUnavailableError,
    PromptError,
    PromptTooLongError,
)
from sefar_serve.schemas.problem import ErrorBody, ErrorResponse

log = logging.getLogger(__name__)


class ApiError(Exception):
    """A request that cannot be served as it was put.

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


@dataclass(frozen=True)
class Problem:
    """An error answer: its status, its body and its headers."""

    status: int
    body: ErrorBody
    headers: Mapping[str, str] = field(default_factory=dict)

    def response(self) -> JSONResponse:
        """The HTTP answer."""
        return JSONResponse(
            ErrorResponse(error=self.body).model_dump(), status_code=self.status, headers=dict(self.headers)
        )


ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorResponse, "description": text}
    for status, text in {
        400: "malformed request",
        401: "no valid API key",
        403: "a URL of a host, or a path, that the operator does not allow",
        404: "no such model, clip or job",
        413: "too large or too long",
        415: "not a video",
        422: "a video that is empty or cannot be decoded",
        429: "overloaded; see Retry-After",
        501: "no language model here, or no batch jobs",
        502: "a URL that cannot be fetched",
        503: "the engine or the language model is not available; see Retry-After",
        504: "the request took too long",
    }.items()
}
"""OpenAPI's description of what every route about videos may answer instead."""


_CLIP_STATUS: dict[type[ClipError], int] = {
    NotAVideoError: 415,
    NoVideoStreamError: 415,
    EmptyVideoError: 422,
    UndecodableVideoError: 422,
    ClipLimitError: 413,
    ClipSpanError: 400,
}


_JOB_STATUS: dict[type[JobError], tuple[int, str | None]] = {
    JobNotFinishedError: (409, None),
    JobHasNoRowsError: (409, None),
    IdempotencyKeyReusedError: (409, "Idempotency-Key"),
    PathNotAllowedError: (403, "input"),
    TooManyClipsError: (413, "input"),
}


def problem(status: int, code: str, message: str, param: str | None = None, **headers: str) -> Problem:
    """A problem in OpenAI's terms: the type says whose fault it is."""
    kinds = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
    kind = kinds.get(status, "server_error" if status >= 500 else "invalid_request_error")
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Problem(status, ErrorBody(message=message, type=kind, param=param, code=code), named)


def problem_of(error: Exception) -> Problem:
    """What to tell the user about an exception; one that we did not foresee is logged and stays vague."""
    match error:
        case ApiError():
            return problem(error.status, error.code, str(error), error.param)
        case ClipError():
            return problem(_CLIP_STATUS.get(type(error), 400), error.code, str(error), "input")
        case EngineOverloadedError():
            return problem(429, "overloaded", str(error), Retry_After=str(error.retry_after))
        case EngineUnavailableError():
            return problem(503, "engine_unavailable", str(error), Retry_After=str(error.retry_after))
        case EngineTimeoutError():
            return problem(504, "inference_timeout", str(error))
        case ModelNotFoundError():
            return problem(404, "model_not_found", str(error), "model")
        case InferenceError():
            return problem(500, "inference_failed", str(error))
        case PromptTooLongError():
            return problem(400, "context_length_exceeded", str(error), "messages")
        case FeatureMismatchError():
            return problem(503, "adapter_mismatch", str(error))
        case PromptError():
            return problem(400, "invalid_prompt", str(error), "messages")
        case AdapterMismatchError():
            return problem(503, "adapter_mismatch", str(error))
        case GeneratorOverloadedError():
            return problem(429, "overloaded", str(error), Retry_After=str(error.retry_after))
        case GeneratorUnavailableError():
            return problem(503, "generator_unavailable", str(error), Retry_After=str(error.retry_after))
        case GenerationError():
            return problem(500, "generation_failed", str(error))
        case UrlNotAllowedError():
            return problem(403, error.code, str(error), "input")
        case UrlTimeoutError():
            return problem(504, error.code, str(error), "input")
        case UrlFetchError():
            return problem(502, error.code, str(error), "input")
        case ClipNotFoundError():
            return problem(404, error.code, str(error), "messages")
        case JobNotFoundError():
            return problem(404, error.code, str(error), error.param)
        case JobStorageError():
            return problem(503, error.code, str(error), Retry_After=str(error.retry_after))
        case JobsFullError():
            return problem(429, error.code, str(error), Retry_After=str(error.retry_after))
        case JobError():
            status, param = _JOB_STATUS[type(error)]
            return problem(status, error.code, str(error), param)
        case ExtractError():
            return problem(400, error.code, str(error), "input")
        case TimeoutError():
            return problem(
                504, "timeout", "the request took longer than the server allows; send fewer or shorter clips"
            )
        case HTTPException():
            phrase = HTTPStatus(error.status_code).phrase
            code = phrase.lower().replace(" ", "_")
            return problem(error.status_code, code, str(error.detail), **dict(error.headers or {}))
        case RequestValidationError():
            return validation_problem(error.errors())
        case _:
            log.error("unforeseen error", exc_info=error)
            return problem(500, "internal_error", "an error of the server; the log has it under the request's id")


def validation_problem(errors: object) -> Problem:
    """The first of pydantic's complaints, in words."""
    first = list(errors)[0] if isinstance(errors, (list, tuple)) else {}  # noqa: RUF015
    path = [str(part) for part in first.get("loc", ()) if part not in ("query", "body")]
    param = ".".join(path) or None
    message = first.get("msg", "the request is malformed")
    if first.get("type") == "extra_forbidden":
        message = "unknown parameter"
    return problem(400, "invalid_parameter", f"{param}: {message}" if param else message, param)


def install_error_handlers(app: FastAPI) -> None:
    """Route every exception through `problem_of`."""

    async def handle(_: Request, error: Exception) -> JSONResponse:
        return problem_of(error).response()

    foreseen = (
        ApiError,
        ClipError,
        EngineOverloadedError,
        EngineTimeoutError,
        EngineUnavailableError,
        InferenceError,
        ModelNotFoundError,
        GenerationError,
        UrlNotAllowedError,
        UrlFetchError,
        UrlTimeoutError,
        ClipNotFoundError,
        JobError,
        ExtractError,
        TimeoutError,
    )
    for kind in (*foreseen, HTTPException, RequestValidationError, Exception):
        app.add_exception_handler(kind, handle)
