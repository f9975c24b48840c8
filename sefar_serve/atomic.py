"""Atomic writes: a file or folder appears complete, or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Write a folder atomically.

    Args:
        folder: replaced if it exists; its parents are created.

    Yields:
        An empty folder to write into. It replaces `folder` when the block ends without an exception.
    """
    new = folder.with_name(folder.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    yield new
    # Some writers create files that only their owner can read. Whoever can read the folder should read its files.
    for file in new.rglob("*"):
        if file.is_file():
            file.chmod(new.stat().st_mode & 0o666)
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def atomic_file(file: Path) -> Iterator[Path]:
    """Write a file atomically and durably: it survives a power cut once the block has ended.

    Args:
        file: replaced if it exists; its folder must exist.

    Yields:
        A path to write to. It replaces `file` when the block ends without an exception.
    """
    new = file.with_name(f".{file.name}.new")
    try:
        yield new
        with new.open("rb") as written:
            os.fsync(written.fileno())
        new.replace(file)
        folder = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # makes the rename durable too
        finally:
            os.close(folder)
    finally:
        new.unlink(missing_ok=True)
