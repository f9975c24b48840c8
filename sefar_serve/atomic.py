"""Files and folders that are written whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """Give an empty folder to write into; it takes the place of `folder` once the block is done, and not before.

    Args:
        folder: what is replaced, if it is there. Its parents are made.
    """
    new = folder.with_name(folder.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    yield new
    # Some writers make files that only their owner may read; others read what the folder lets them.
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
def file_written_whole(file: Path) -> Iterator[Path]:
    """Give a name to write to; it takes the place of `file` once the block is done, and not before.

    What is there then survives a power cut as well.

    Args:
        file: what is replaced, if it is there. Its folder is.
    """
    new = file.with_name(f".{file.name}.new")
    try:
        yield new
        with new.open("rb") as written:
            os.fsync(written.fileno())
        new.replace(file)
        folder = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the name as well
        finally:
            os.close(folder)
    finally:
        new.unlink(missing_ok=True)
