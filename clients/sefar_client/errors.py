"""Errors of the client."""

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
        code: machine-readable reason, e.g. ``not_a_video``; ``unknown`` if something other than a gateway answered.
        param: the parameter at fault, if there is one; ``input`` for a video.
        request_id: id of the request in the gateway's log.
        retry_after: seconds to wait before retrying, if the gateway gives a time.
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
        # By default, copying and pickling keep only the message.
        return partial(type(self), status=self.status, code=self.code), self.args, self.__dict__

    @property
    def is_passing(self) -> bool:
        """Whether the same request may succeed later: after overload, an engine that is down, a proxy's 502."""
        # A gateway sends Retry-After whenever waiting helps. Its 503 without it means that a setting must be fixed.
        away = self.status in (502, 503) and (self.retry_after is not None or self.code == "unknown")
        return self.status == 429 or away

    @property
    def is_about_the_video(self) -> bool:
        """Whether other videos may succeed although this one failed."""
        return self.param == "input" or self.status in (413, 500, 504) or self.code == "clip_not_found"


class GatewayUnreachableError(ConnectionError):
    """No gateway answers: none is running, the connection broke or timed out, or its answer cannot be read."""


def refusal_of(response: httpx.Response) -> GatewayError:
    """The error in an answer with a status other than 2xx; its body has been read."""
    try:
        body: Any = response.json()
    except (ValueError, RecursionError):
        body = None
    content = body.get("error") if isinstance(body, Mapping) else None
    error: Mapping[str, Any] = content if isinstance(content, Mapping) else {"message": content}
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
    """The error for an answer with status 2xx that does not come from a gateway."""
    return GatewayError(
        f"{response.url} answered {response.status_code}, but not like a sefar-serve gateway of this version; "
        "check the address",
        status=response.status_code,
        code="unknown",
        request_id=response.headers.get("x-request-id"),
    )


def unreachable(error: httpx.RequestError, url: httpx.URL, timeout: float) -> GatewayUnreachableError:
    """Describe a failed connection and what to do."""
    if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
        return GatewayUnreachableError(
            f"the gateway at {url} sent nothing for {timeout:g} s; increase the client's timeout if it is still working"
        )
    if isinstance(error, httpx.DecodingError):
        return GatewayUnreachableError(f"the answer from {url} cannot be decompressed ({error}); check the address")
    why = str(error) or type(error).__name__
    return GatewayUnreachableError(
        f"no gateway answers at {url} ({why}); start one with `sefar serve`, or check the address"
    )


def _retry_after(value: str | None) -> float | None:
    """Seconds to wait by a Retry-After header, seconds or a date (RFC 9110, 10.2.3); None if it is neither."""
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
