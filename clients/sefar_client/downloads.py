"""A job's result on its way to a file."""

from __future__ import annotations

import errno
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal

import httpx

from sefar_client.calls import MEDIA_TYPES
from sefar_client.errors import no_gateway

ResultFormat = Literal["parquet", "jsonl"]


def check_type(response: httpx.Response, kind: ResultFormat) -> None:
    """Tell a result from something else that was answered with 200, such as a proxy's page.

    Raises:
        GatewayError: it is something else.
    """
    if response.headers.get("content-type", "").partition(";")[0].strip().lower() != MEDIA_TYPES[kind]:
        raise no_gateway(response)


@contextmanager
def whole(target: Path) -> Iterator[BinaryIO]:
    """A file that takes its name when it is complete.

    Raises:
        OSError: it cannot be written there.
    """
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, "this is a folder; name a file in it", str(target))
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        file = partial.open("xb")
    except OSError as error:
        raise OSError(error.errno, f"cannot write into this folder ({error.strerror})", str(target.parent)) from error
    try:
        with file:
            yield file
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
