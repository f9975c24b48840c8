"""The JSON of errors, and how exceptions become errors: the same over HTTP, in jobs and on the command line."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel

from sefar_serve.errors import SefarError

log = logging.getLogger(__name__)


LONGEST_MESSAGE, LONGEST_PARAM = 4000, 200
"""Characters of an error's message and parameter, which may repeat what a client sent."""


class ErrorBody(BaseModel):
    """What went wrong, in OpenAI's format."""

    message: str
    type: str
    param: str | None = None
    code: str


class ErrorResponse(BaseModel):
    """The body of every error response."""

    error: ErrorBody


class ItemError(BaseModel):
    """The error of one clip; other clips of the same request may have succeeded."""

    object: Literal["error"] = "error"
    index: int
    name: str
    error: ErrorBody


@dataclass(frozen=True)
class Problem:
    """An error response: HTTP status, body and headers."""

    status: int
    body: ErrorBody
    headers: Mapping[str, str] = field(default_factory=dict)


def problem(status: int, code: str, message: str, param: str | None = None, **headers: str) -> Problem:
    """An error response in OpenAI's format; the error's type follows from the status.

    Args:
        status: HTTP status.
        code: machine-readable reason.
        message: what is wrong and how to fix it.
        param: name of the request parameter at fault.
        headers: headers of the response; write `_` for `-` in their names.
    """
    kinds = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
    kind = kinds.get(status, "server_error" if status >= 500 else "invalid_request_error")
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    message, param = shortened(message, LONGEST_MESSAGE), None if param is None else shortened(param, LONGEST_PARAM)
    return Problem(status, ErrorBody(message=message, type=kind, param=param, code=code), named)


def shortened(text: str, most: int) -> str:
    """A text without its end, if it has more than `most` characters."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def problem_of(error: Exception) -> Problem:
    """The error response for an exception; an unexpected one is logged and reported without details.

    Codes:
        internal_error (500): An unexpected error happened; the server's log has it under the request id.
        timeout (504): The request took longer than the server allows.
    """
    match error:
        case SefarError(retry_after=None):
            return problem(error.status, error.code, str(error), error.param)
        case SefarError():
            return problem(error.status, error.code, str(error), error.param, Retry_After=str(error.retry_after))
        case TimeoutError():
            message = "the request took longer than the server allows; send fewer or shorter clips"
            return problem(504, "timeout", message)
        case _:
            log.error("unexpected error", exc_info=error)
            return problem(500, "internal_error", "Internal server error. Search the log for this request id")
