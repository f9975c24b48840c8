"""What can go wrong between a caller and a gateway."""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any

import httpx


class GatewayError(Exception):
    """The gateway answered with an error.

    Attributes:
        status: HTTP status.
        code: machine-readable reason, e.g. ``not_a_video``; ``unknown`` where something else than a gateway answered.
        param: the parameter at fault, if one is; ``input`` for a video.
        request_id: to be found in the gateway's log.
        retry_after: seconds to wait before trying again, where the gateway says.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: str,
        param: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.request_id = request_id
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[Any, ...]:
        # Python would make a copy of the message alone.
        return partial(type(self), status=self.status, code=self.code), self.args, self.__dict__

    @property
    def is_passing(self) -> bool:
        """Whether the same request may be answered later: too much work now, an engine that is away, a proxy's 502."""
        # A gateway names a time wherever waiting helps. Its 503 without one is a setting that somebody has to mend.
        away = self.status in (502, 503) and (self.retry_after is not None or self.code == "unknown")
        return self.status == 429 or away

    @property
    def is_about_the_video(self) -> bool:
        """Whether other videos may be answered where this one is not."""
        return self.param == "input" or self.status in (413, 500, 504) or self.code == "clip_not_found"


class GatewayUnreachableError(ConnectionError):
    """No gateway answers: none is there, it went away, it was silent for too long, or what it sent cannot be read."""


def refusal_of(response: httpx.Response) -> GatewayError:
    """The error that an answer other than 2xx tells of; its body has been read."""
    try:
        body: Any = response.json()
    except (ValueError, RecursionError):
        body = None
    told = body.get("error") if isinstance(body, Mapping) else None
    error: Mapping[str, Any] = told if isinstance(told, Mapping) else {"message": told}
    message, code, param = error.get("message"), error.get("code"), error.get("param")
    return GatewayError(
        str(message or f"{response.url} answered {response.status_code} {response.reason_phrase}"),
        status=response.status_code,
        code=str(code or "unknown"),
        param=None if param is None else str(param),
        request_id=response.headers.get("x-request-id"),
        retry_after=_retry_after(response.headers.get("retry-after")),
    )


def no_gateway(response: httpx.Response) -> GatewayError:
    """The error for an answer of 2xx that no gateway gives."""
    return GatewayError(
        f"{response.url} answered {response.status_code}, but not as a sefar-serve gateway of this version does; "
        "is the address right?",
        status=response.status_code,
        code="unknown",
        request_id=response.headers.get("x-request-id"),
    )


def unreachable(error: httpx.RequestError, url: httpx.URL, timeout: float) -> GatewayUnreachableError:
    """A failed connection, in words that say what to do."""
    if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
        return GatewayUnreachableError(
            f"the gateway at {url} was silent for {timeout:g} s; give the client a longer timeout if it is at work"
        )
    if isinstance(error, httpx.DecodingError):
        return GatewayUnreachableError(f"what {url} answered cannot be unpacked ({error}); is the address right?")
    why = str(error) or type(error).__name__
    return GatewayUnreachableError(
        f"no gateway answers at {url} ({why}); start one with `sefar serve`, or give the address of another"
    )


def _retry_after(value: str | None) -> float | None:
    """Seconds of a Retry-After header, which holds seconds or a date (RFC 9110, 10.2.3); None if it holds neither."""
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None
