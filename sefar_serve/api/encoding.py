"""Content-Encoding of requests: JSON may come as gzip; videos come as they are, since they are compressed already."""

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
"""A few at a time: kilobytes may inflate to the largest body allowed, which costs us memory and the sender nothing."""


class BodyTooLargeError(SefarError):
    """A request, or what its gzip inflates to, is larger than the operator allows."""

    status = 413
    code = "body_too_large"

    def __init__(self, max_bytes: int, *, inflated: bool = False) -> None:
        what = "the request inflates to more than" if inflated else "the request is larger than"
        super().__init__(f"{what} {max_bytes} bytes; send fewer or shorter clips")


class EncodingNotSupportedError(SefarError):
    """A body has a Content-Encoding other than gzip, or has one and is not JSON."""

    status = 415
    code = "unsupported_encoding"


class BrokenEncodingError(SefarError):
    """A body is not the gzip that its Content-Encoding says."""

    status = 400
    code = "invalid_encoding"


def check_plain(request: Request) -> None:
    """Refuse an encoded body where a video or a form is expected.

    Raises:
        EncodingNotSupportedError: 415.
    """
    if coding := _coding(request):
        raise EncodingNotSupportedError(
            f"Content-Encoding {coding} is decoded for JSON alone; videos are compressed already, so send the body as "
            "it is, without Content-Encoding"
        )


async def parsed_json(request: Request, max_bytes: int) -> Any:
    """Read a body and parse it as JSON, inflating it where it is gzip; off the event loop.

    Args:
        request: its body not yet read, and cut off at `max_bytes`.
        max_bytes: largest body, before and after inflating.

    Raises:
        EncodingNotSupportedError: 415 for any other coding than gzip.
        BrokenEncodingError: 400.
        BodyTooLargeError: 413; nothing is inflated further.
        ValueError, RecursionError: it is not JSON.
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
    """The codings of a body, in lower case; empty for none."""
    codings = ",".join(request.headers.getlist("content-encoding")).lower().split(",")
    return ", ".join(name for coding in codings if (name := coding.strip()) not in ("", "identity"))


def _inflated(raw: bytes, max_bytes: int) -> bytes:
    try:
        with gzip.open(io.BytesIO(raw)) as stream:
            # Inflates block by block and stops here, however much more the rest would come to.
            content = stream.read(max_bytes + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise BrokenEncodingError(f"the body is not valid gzip, as Content-Encoding says: {error}") from error
    if len(content) > max_bytes:
        raise BodyTooLargeError(max_bytes, inflated=True)
    return content
