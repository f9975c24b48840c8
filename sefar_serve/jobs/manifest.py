"""Reads a stranger's manifest in a process of its own, with limits on memory, time, rows and cells.

A Parquet file of a few kilobytes can expand to gigabytes, and its reader is C++ that trusts it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import IO, Any

from sefar_serve.extract.clips import SourceError
from sefar_serve.extract.manifests import NamedClip
from sefar_serve.jobs.errors import TooManyClipsError

_AT_ONCE = threading.Semaphore(2)


@dataclass(frozen=True)
class ManifestLimits:
    """Limits on reading one manifest.

    Attributes:
        rows: maximum number of rows.
        characters: maximum length of a cell.
        output_bytes: maximum size of all rows as JSON.
        memory_bytes: address space that the reader may use on top of what it needs to start.
        cpu_seconds: CPU time.
        seconds: wall-clock time.
    """

    rows: int
    characters: int = 8192
    output_bytes: int = 256 * 1024**2
    memory_bytes: int = 1024**3
    cpu_seconds: int = 30
    seconds: float = 90.0


class ManifestTooLargeError(SourceError):
    """Reading a manifest takes more time or memory than a manifest of this many rows needs."""

    status = 413
    code = "manifest_too_large"


def read_bounded(file: IO[bytes], name: str, limits: ManifestLimits) -> Iterator[NamedClip]:
    """Read a manifest in another process. Blocks; nothing is read before the first clip is asked for.

    Args:
        file: the manifest; read from its start, closed at the end. It must have a file descriptor.
        name: its name. Its suffix selects the format, and error messages start with it.
        limits: limits on the reader.

    Raises:
        SourceError: the manifest is malformed.
        TooManyClipsError: it has more than `limits.rows` rows.
        ManifestTooLargeError: reading it exceeds another limit.
    """
    with file, tempfile.TemporaryFile() as rows:
        file.seek(0)
        with _AT_ONCE:
            _run(file, rows, name, limits)
        rows.seek(0)
        for line in rows:
            yield _clip(json.loads(line), limits)


def _run(file: IO[bytes], rows: IO[bytes], name: str, limits: ManifestLimits) -> None:
    command = [sys.executable, "-P", "-m", "sefar_serve.jobs.manifest_reader", name, json.dumps(asdict(limits))]
    # The reader needs none of the gateway's settings, among which are keys.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SEFAR_")}
    environment["ARROW_DEFAULT_MEMORY_POOL"] = "system"  # the others reserve more address space than the limit
    too_large = ManifestTooLargeError(f"{name} takes too much time or memory to read; split it into several manifests")
    try:
        done = subprocess.run(
            command, stdin=file, stdout=rows, stderr=subprocess.PIPE, cwd="/", env=environment, timeout=limits.seconds
        )
    except subprocess.TimeoutExpired as error:
        raise too_large from error
    if done.returncode in (-signal.SIGXCPU, -signal.SIGKILL, -signal.SIGABRT):
        raise too_large
    if done.returncode != 0:
        last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise SourceError(f"{name} cannot be read; write the file again") from RuntimeError(*last)


def _clip(row: dict[str, Any], limits: ManifestLimits) -> NamedClip:
    match row:
        case {"error": "rows"}:
            raise TooManyClipsError(limits.rows)
        case {"error": "large", "message": str(message)}:
            raise ManifestTooLargeError(message)
        case {"error": "source", "message": str(message)}:
            raise SourceError(message)
    return NamedClip(**row)
