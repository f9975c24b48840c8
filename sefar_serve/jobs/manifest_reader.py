"""The process that reads a manifest for `sefar_serve.jobs.manifest`: a file on stdin, one JSON line per clip on stdout.

Usage: python -m sefar_serve.jobs.manifest_reader NAME LIMITS
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from sefar_serve.extract.clips import SourceError
from sefar_serve.extract.manifests import NamedClip, read_manifest
from sefar_serve.jobs.manifest import ManifestLimits


def main(name: str, limits: ManifestLimits) -> None:
    """Write the clips, and at the end an error if there is one."""
    bound(limits)
    try:
        for row in _rows(name, limits):
            _write(row)
        sys.stdout.flush()
    except (SourceError, MemoryError) as error:
        if isinstance(error, SourceError) and not isinstance(error.__cause__, MemoryError):
            _write({"error": "source", "message": str(error)})
            return
        _write({"error": "large", "message": f"{name} takes too much memory to read; split it into several manifests"})


def bound(limits: ManifestLimits) -> None:
    """Limit this process's memory and CPU time, and take away its threads."""
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) if Path("/proc").is_dir() else 0
    used = pages * os.sysconf("SC_PAGE_SIZE")
    _lower(resource.RLIMIT_AS, used + limits.memory_bytes)
    _lower(resource.RLIMIT_CPU, limits.cpu_seconds)
    _lower(resource.RLIMIT_CORE, 0)


def _lower(kind: int, most: int) -> None:
    """Set a limit, unless this process has a lower one already."""
    hard = resource.getrlimit(kind)[1]
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(kind, (most, most))


def _rows(name: str, limits: ManifestLimits) -> Iterator[dict[str, Any]]:
    written = 0
    for number, clip in enumerate(read_manifest(_opened, name), start=1):
        if number > limits.rows:
            yield {"error": "rows"}
            return
        if longest := _too_long(clip, limits.characters):
            message = f"{name}, clip {number}: the {longest} has more than {limits.characters} characters; shorten it"
            yield {"error": "source", "message": message}
            return
        row = asdict(clip)
        written += len(clip.name) + len(clip.id or "")
        if written > limits.output_bytes:
            message = f"{name} has more than {limits.output_bytes} bytes of paths; split it into several manifests"
            yield {"error": "large", "message": message}
            return
        yield row


def _too_long(clip: NamedClip, characters: int) -> str | None:
    return "path" if len(clip.name) > characters else "id" if len(clip.id or "") > characters else None


def _opened() -> BinaryIO:
    file = os.fdopen(os.dup(0), "rb")
    file.seek(0)
    return file


def _write(row: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], ManifestLimits(**json.loads(sys.argv[2])))
