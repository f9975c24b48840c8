"""Keeps lines out of stderr that native code writes there, past Python."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager

STDERR = 2
_lock = threading.Lock()


@contextmanager
def without_lines(start: bytes) -> Iterator[None]:
    """Drop the lines that begin so from what this process writes to stderr; everything else follows at the end.

    Native code writes to the file descriptor, which the whole process shares, so keep this short.

    Args:
        start: of the lines to drop.
    """
    with _lock, tempfile.TemporaryFile() as caught:
        if sys.stderr is not None:
            sys.stderr.flush()
        kept = os.dup(STDERR)
        try:
            os.dup2(caught.fileno(), STDERR)
            yield
        finally:
            if sys.stderr is not None:
                sys.stderr.flush()
            os.dup2(kept, STDERR)
            os.close(kept)
            caught.seek(0)
            for line in caught:
                if not line.startswith(start):
                    os.write(STDERR, line)
