"""Content-Encoding of requests: JSON may be gzipped; videos are already compressed and are sent without an encoding."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from sefar_serve.errors import SefarError

_INFLATING = ThreadPoolExecutor(4, "sefar-inflate")
"""Few threads, because a few kilobytes can inflate to the largest allowed body and use that much memory."""

_GZIP = b"\x1f\x8b"
"""First bytes of every gzip file."""


class BodyTooLargeError(SefarError):
    """The request body, or what its gzip inflates to, is larger than the operator allows."""

    status = 413
    code = "body_too_large"

    def __init__(self, max_bytes: int, *, inflated: bool = False) -> None:
        what = "the request body inflates to more than" if inflated else "the request body is larger than"
        super().__init__(f"{what} {max_bytes} bytes; send fewer or shorter clips")


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


async def parsed_json(request: Request, max_bytes: int) -> Any:
    """Read a body and parse it as JSON off the event loop; a gzip body is inflated first.

    Args:
        request: the request; its body has not been read and is limited to `max_bytes`.
        max_bytes: largest body in bytes, before and after inflating.

    Raises:
        EncodingNotSupportedError: 415 for any encoding other than gzip.
        BrokenEncodingError: 400 if the body is not valid gzip, or was compressed twice.
        BodyTooLargeError: 413; inflating stops at the limit.
        ValueError, RecursionError: the body is not JSON.
    """
    coding = _coding(request)
    if coding not in ("", "gzip", "x-gzip"):
        raise EncodingNotSupportedError(
            f"Content-Encoding {coding} is not supported; compress JSON with gzip, or send it without Content-Encoding"
        )
    raw = await request.body()
    if not coding:
        return await run_in_threadpool(json.loads, raw)
    return await asyncio.get_running_loop().run_in_executor(_INFLATING, lambda: json.loads(_inflated(raw, max_bytes)))


def _coding(request: Request) -> str:
    """The encodings of a body, in lower case; empty for none."""
    codings = ",".join(request.headers.getlist("content-encoding")).lower().split(",")
    return ", ".join(name for coding in codings if (name := coding.strip()) not in ("", "identity"))


def _inflated(raw: bytes, max_bytes: int) -> bytes:
    try:
        with gzip.open(io.BytesIO(raw)) as stream:
            # This inflates block by block and stops here, however large the rest would become.
            content = stream.read(max_bytes + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise BrokenEncodingError(f"Content-Encoding is gzip, but the body is not valid gzip: {error}") from error
    if len(content) > max_bytes:
        raise BodyTooLargeError(max_bytes, inflated=True)
    if content.startswith(_GZIP):
        raise BrokenEncodingError("the body is still compressed after gzip; compress it once")
    return content
