"""Content-Encoding of requests: JSON may be gzipped; videos are already compressed and are sent without an encoding."""

from __future__ import annotations

import asyncio
import gzip
import io
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from pydantic_core import from_json
from starlette.concurrency import run_in_threadpool

from sefar_serve.errors import SefarError

_INFLATING = ThreadPoolExecutor(4, "sefar-inflate")
"""Few threads, because a few kilobytes can inflate to the largest allowed body and use that much memory."""

_GZIP = b"\x1f\x8b"
"""First bytes of every gzip file."""


_BOM = b"\xef\xbb\xbf"

_SMALL = 64 * 1024
"""Bytes that are parsed at once, because a change of thread would take longer."""

_BLOCK = 1024 * 1024

MAX_VALUES = 50_000
"""Values in the JSON of a request; a request for 64 videos has fewer than 100."""


@dataclass(frozen=True)
class JsonLimits:
    """Limits on a JSON body.

    Attributes:
        max_bytes: largest body in bytes, before and after inflating.
        max_values: maximum number of values: numbers, texts, lists, objects.
    """

    max_bytes: int
    max_values: int = MAX_VALUES


class BodyTooLargeError(SefarError):
    """The request body, or what its gzip inflates to, is larger than the operator allows."""

    status = 413
    code = "body_too_large"

    def __init__(self, max_bytes: int, kind: str = "", *, inflated: bool = False) -> None:
        what = "the request body inflates to more than" if inflated else "the request body is larger than"
        limit = f"{max_bytes} bytes" + (f", the limit for {kind}" if kind else "")
        fix = "send videos as files (multipart/form-data)" if kind else "send fewer or shorter clips"
        super().__init__(f"{what} {limit}; {fix}")


class JsonTooLargeError(SefarError):
    """The JSON of a request has more values than any valid request."""

    status = 413
    code = "json_too_large"


class EncodingNotSupportedError(SefarError):
    """The body has a Content-Encoding other than gzip, or has one and is not JSON."""

    status = 415
    code = "unsupported_encoding"


class BrokenEncodingError(SefarError):
    """Content-Encoding is gzip, but the body is not valid gzip, or was compressed twice."""

    status = 400
    code = "invalid_encoding"


def check_plain(request: Request) -> None:
    """Refuse a body with a Content-Encoding if a video or a form is expected.

    Raises:
        EncodingNotSupportedError: 415.
    """
    if coding := _coding(request):
        raise EncodingNotSupportedError(
            f"Content-Encoding {coding} is only supported for JSON; videos are already compressed, so send the body "
            "without Content-Encoding"
        )


async def parsed_json(request: Request, limits: JsonLimits) -> Any:
    """Read a body and parse it as JSON; a gzip body is inflated first. Large bodies are parsed off the event loop.

    The values in a body are counted before it is parsed: many small ones take seconds to parse, in any thread, because
    the parser holds Python's lock. The parser itself limits how deep they are nested.

    Args:
        request: its body not yet read.
        limits: limits on the body, before and after inflating.

    Raises:
        EncodingNotSupportedError: 415 for any encoding other than gzip.
        BrokenEncodingError: 400 if the body is not valid gzip, or was compressed twice.
        BodyTooLargeError, JsonTooLargeError: 413; reading and inflating stop at the limit.
        ValueError: the body is not JSON, or is nested too deep.
    """
    coding = _coding(request)
    if coding not in ("", "gzip", "x-gzip"):
        raise EncodingNotSupportedError(
            f"Content-Encoding {coding} is not supported; compress JSON with gzip, or send it without Content-Encoding"
        )
    seen = _Counted(limits)
    chunks: list[bytes] = []
    async for chunk in request.stream():
        if coding:
            seen.add_bytes(len(chunk))
        else:
            seen.add(chunk)
        chunks.append(chunk)
    raw = b"".join(chunks)
    if coding:
        raw = await asyncio.get_running_loop().run_in_executor(_INFLATING, _inflated, raw, limits)
        request.state.hold(len(raw))
    return await run_in_threadpool(_parsed, raw) if len(raw) > _SMALL else _parsed(raw)


class _Counted:
    """Counts the bytes and values of a body as it arrives.

    Commas and opening brackets are counted, those in texts too, so the true number of values is never larger.
    """

    def __init__(self, limits: JsonLimits) -> None:
        self._limits = limits
        self._bytes = 0
        self._values = 1

    def add(self, chunk: bytes, *, inflated: bool = False) -> None:
        """Count a chunk.

        Raises:
            BodyTooLargeError, JsonTooLargeError: a limit is exceeded.
        """
        self.add_bytes(len(chunk), inflated=inflated)
        self._values += sum(map(chunk.count, (b",", b"[", b"{")))
        if self._values > self._limits.max_values:
            raise JsonTooLargeError(
                f"the JSON has more than {self._limits.max_values} values; send fewer, or shorter lists"
            )

    def add_bytes(self, number: int, *, inflated: bool = False) -> None:
        """Count bytes only.

        Raises:
            BodyTooLargeError: the limit is exceeded.
        """
        self._bytes += number
        if self._bytes > self._limits.max_bytes:
            raise BodyTooLargeError(self._limits.max_bytes, "JSON", inflated=inflated)


def _parsed(raw: bytes) -> Any:
    # Strict: no NaN, no lone surrogates, which cannot be sent back. Nesting ends at 200.
    return from_json(raw.removeprefix(_BOM), allow_inf_nan=False, cache_strings=False)


def _coding(request: Request) -> str:
    """The encodings of a body, in lower case; empty for none."""
    codings = ",".join(request.headers.getlist("content-encoding")).lower().split(",")
    return ", ".join(name for coding in codings if (name := coding.strip()) not in ("", "identity"))


def _inflated(raw: bytes, limits: JsonLimits) -> bytes:
    seen = _Counted(limits)
    chunks: list[bytes] = []
    try:
        with gzip.open(io.BytesIO(raw)) as stream:
            # This inflates block by block and stops at a limit, however large the rest would become.
            while chunk := stream.read(_BLOCK):
                seen.add(chunk, inflated=True)
                chunks.append(chunk)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise BrokenEncodingError(f"Content-Encoding is gzip, but the body is not valid gzip: {error}") from error
    content = b"".join(chunks)
    if content.startswith(_GZIP):
        raise BrokenEncodingError("the body is still compressed after gzip; compress it once")
    return content
