"""Atomic writes: a file or folder appears complete, or not at all."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sefar_serve.errors import SefarError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_NO_LEAVE = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
_SCARCE = 1 << 20
"""Bytes; a writer that fails without a reason has run out of space if less is free."""


class WriteError(SefarError, OSError):
    """A file or folder cannot be written; the message names it and says what to do."""


class DiskFullError(WriteError):
    """There is no space left.

    Args:
        folder: that is full.
        then: what to do once there is space.
    """

    def __init__(self, folder: Path, then: str = "repeat the command") -> None:
        super().__init__(f"{folder} is full; free space, then {then}")
        self.errno = errno.ENOSPC
        self.folder = folder


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Write a folder atomically.

    Args:
        folder: replaced if it exists; its parents are created.

    Yields:
        An empty folder to write into. It replaces `folder` when the block ends without an exception, and is removed
        otherwise.

    Raises:
        WriteError: it cannot be written, e.g. because the disk is full.
    """
    new = folder.with_name(folder.name + ".new")
    with _explained(folder, new):
        try:
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir(parents=True)
            yield new
            # Some writers create files that only their owner can read. Whoever can read the folder should read its
            # files.
            for file in new.rglob("*"):
                if file.is_file():
                    file.chmod(new.stat().st_mode & 0o666)
            old = folder.with_name(folder.name + ".old")
            shutil.rmtree(old, ignore_errors=True)
            if folder.exists():
                folder.rename(old)
            new.rename(folder)
            shutil.rmtree(old, ignore_errors=True)
        finally:
            shutil.rmtree(new, ignore_errors=True)


@contextmanager
def atomic_file(file: Path) -> Iterator[Path]:
    """Write a file atomically and durably: it survives a power cut once the block has ended.

    Args:
        file: replaced if it exists; its folder must exist.

    Yields:
        A path to write to. It replaces `file` when the block ends without an exception.

    Raises:
        WriteError: it cannot be written, e.g. because the disk is full.
    """
    new = file.with_name(f".{file.name}.new")
    with _explained(file, new):
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
            # Where it cannot be removed, it could not be written either, and that error is the one to see.
            if os.access(new.parent, os.W_OK):
                new.unlink(missing_ok=True)


@contextmanager
def _explained(target: Path, new: Path) -> Iterator[None]:
    """Turn what goes wrong with writing `new` into errors about `target`; other errors of the block stay."""
    try:
        yield
    except WriteError:
        raise
    except OSError as error:
        if error.errno in _FULL:
            raise DiskFullError(target.parent) from error
        if not _concerns(error, new):
            raise
        if error.errno in _NO_LEAVE:
            fix = f"get write permission for {target.parent}, or choose another folder"
        elif isinstance(error, FileNotFoundError):
            fix = f"create {target.parent} first"
        else:
            fix = "choose another folder"
        written = WriteError(f"{target} cannot be written ({error.strerror or error}); {fix}")
        written.errno = error.errno
        raise written from error
    except Exception as error:
        # Writers of other packages have errors of their own, some without the reason.
        if _says_full(error) or (_fails_to_write(error) and _is_full(target.parent)):
            raise DiskFullError(target.parent) from error
        raise


def _concerns(error: OSError, new: Path) -> bool:
    """Whether an error is about the temporary file or folder, or a file in it."""
    if error.filename is None:
        return error.errno == errno.EIO
    named = Path(os.fsdecode(error.filename))
    return new == named or new in named.parents or new.parent == named


def _says_full(error: Exception) -> bool:
    return os.strerror(errno.ENOSPC) in str(error) or f"(os error {errno.ENOSPC})" in str(error)


def _fails_to_write(error: Exception) -> bool:
    return isinstance(error, RuntimeError) and "writ" in str(error)


def _is_full(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < _SCARCE
    except OSError:
        return False
