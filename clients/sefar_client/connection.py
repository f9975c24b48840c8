"""Where the gateway is, with which key it is spoken to, and what goes wrong on the way, in our words."""

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
"""The caller says how many are under way; beyond httpx's own 100, requests would fail for want of a connection."""


def address(base_url: str) -> str:
    """The address alone: who knows OpenAI's clients writes /v1 behind it.

    Raises:
        ValueError: no gateway can be there.
    """
    why = ""
    try:
        url = httpx.URL(base_url)
        good = url.scheme in ("http", "https") and bool(url.host) and (url.port or 0) < 2**16
    except httpx.InvalidURL as error:
        good, why = False, f" ({error})"
    if not good:
        raise ValueError(
            f"{base_url!r} is no address of a gateway{why}; begin it with http:// or https://, as in {DEFAULT_URL}"
        )
    return base_url.rstrip("/").removesuffix("/v1")


def headers(api_key: str | None) -> dict[str, str]:
    """What every request says besides: the key as bearer token, where there is one.

    Raises:
        ValueError: the key cannot be sent.
    """
    key = (api_key or os.environ.get("SEFAR_API_KEY") or "").strip()
    if not (key.isascii() and key.isprintable()):
        raise ValueError("the API key has a character that cannot be sent; give one line of ASCII")
    return {"authorization": f"Bearer {key}"} if key else {}


@contextmanager
def in_words(http: httpx.Client | httpx.AsyncClient, retries: Retries) -> Iterator[None]:
    """Turn a failed connection into our error, and note when there was none."""
    try:
        yield
    except httpx.RequestError as error:
        raise unreachable(error, http.base_url, http.timeout.read or 0.0) from error
    except GatewayError:
        retries.answered = True
        raise
    retries.answered = True


def read(call: Call[T], response: httpx.Response, tries: Tries) -> T:
    """The result that an answer holds.

    Raises:
        GatewayError: it is a refusal, or not of a gateway.
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
