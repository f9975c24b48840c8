"""Address and API key of the gateway, and its connection errors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import httpx

from sefar_client.calls import Call
from sefar_client.errors import GatewayError, no_gateway, refusal_of, unreachable
from sefar_client.retries import Retries, Tries

T = TypeVar("T")

DEFAULT_URL = "http://127.0.0.1:8000"
"""Where `sefar serve` listens by default."""

LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=None)
"""Unlimited, because callers choose how many requests are in flight. Beyond httpx's default of 100 they time out."""


def address(base_url: str) -> str:
    """Check a base URL and remove a trailing /v1, which OpenAI's clients need.

    Raises:
        ValueError: it is not a valid address.
    """
    why = ""
    try:
        url = httpx.URL(base_url)
        good = url.scheme in ("http", "https") and bool(url.host) and (url.port or 0) < 2**16
    except httpx.InvalidURL as error:
        good, why = False, f" ({error})"
    if not good:
        raise ValueError(
            f"{base_url!r} is not a valid gateway address{why}; start it with http:// or https://, as in {DEFAULT_URL}"
        )
    return base_url.rstrip("/").removesuffix("/v1")


def headers(api_key: str | None) -> dict[str, str]:
    """Headers of every request: the key as a bearer token, if there is one.

    Raises:
        ValueError: the key cannot be sent.
    """
    key = (api_key or os.environ.get("SEFAR_API_KEY") or "").strip()
    if not (key.isascii() and key.isprintable()):
        raise ValueError("the API key has a character that cannot be sent; it must be one line of ASCII")
    return {"authorization": f"Bearer {key}"} if key else {}


@contextmanager
def translate_errors(http: httpx.Client | httpx.AsyncClient, retries: Retries) -> Iterator[None]:
    """Turn connection errors into `GatewayUnreachableError`, and note when the gateway answered."""
    try:
        yield
    except httpx.RequestError as error:
        raise unreachable(error, http.base_url, http.timeout.read or 0.0) from error
    except GatewayError:
        retries.answered = True
        raise
    retries.answered = True


def read(call: Call[T], response: httpx.Response, tries: Tries) -> T:
    """Read the result from an answer.

    Raises:
        GatewayError: the gateway refused the request, or something else answered.
    """
    if not response.is_success:
        refusal = refusal_of(response)
        if not (tries.may_be_done and refusal.code == call.done_code):
            raise refusal
        return call.read(None)
    try:
        return call.read(response.json() if response.content else None)
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise no_gateway(response) from error
