"""The JSON of errors: what went wrong with a request, or with one clip of several."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel


class ErrorBody(BaseModel):
    """What went wrong, in OpenAI's shape."""

    message: str
    type: str
    param: str | None = None
    code: str


class ErrorResponse(BaseModel):
    """The one shape of every error answer."""

    error: ErrorBody


class ItemError(BaseModel):
    """A clip that failed, among others of its request that may not have."""

    object: Literal["error"] = "error"
    index: int
    name: str
    error: ErrorBody
