"""Saves the result of a job to a file."""

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
    """Check that an answer with status 200 is a result, and not for example a proxy's page.

    Raises:
        GatewayError: it is not a result.
    """
    if response.headers.get("content-type", "").partition(";")[0].strip().lower() != MEDIA_TYPES[kind]:
        raise no_gateway(response)


@contextmanager
def atomic_file(target: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that gets its name only when it is complete.

    Raises:
        OSError: the file cannot be written there.
    """
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, "this is a folder; add a file name", str(target))
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
