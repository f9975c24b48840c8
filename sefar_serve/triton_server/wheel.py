"""A Triton server from a Python wheel, for machines without Docker, in its own environment that is set up once.

nvidia-pytriton contains NVIDIA's `tritonserver` with the Python backend and pins numpy below 2, so it needs its own
environment. Only its server is used: its Python dependencies are not installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

from sefar_serve.engine.errors import EngineError

PYTHONS = ((3, 11), (3, 12))
"""Python versions for which the wheel has a backend and numpy below 2 has wheels."""

SERVER = "nvidia-pytriton==0.7.0"
PACKAGES = ("numpy==1.26.4", "onnxruntime==1.32.0")
"""The packages that the served model.py imports."""

_READY = ".ready"


class TritonSetupError(EngineError):
    """The server's environment cannot be created, or does not exist."""


def default_home() -> Path:
    """The default folder of the environment: SEFAR_TRITON_HOME if it is set, else in the user's cache folder."""
    if home := os.environ.get("SEFAR_TRITON_HOME"):
        return Path(home)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "sefar-serve" / f"triton-{SERVER.rpartition('=')[2]}"


@dataclass(frozen=True)
class TritonHome:
    """An environment created by `setup`."""

    path: Path

    @property
    def ready(self) -> bool:
        """Whether it is complete and has the current versions of Python and the packages."""
        stamp = self.path / _READY
        return stamp.is_file() and stamp.read_text(encoding="utf-8") == _wanted()

    @property
    def packages(self) -> Path:
        """Its site-packages."""
        return next((self.path / "venv" / "lib").glob("python3*/site-packages"))

    @property
    def binary(self) -> Path:
        """The server."""
        return self.packages / "pytriton" / "tritonserver" / "bin" / "tritonserver"

    @property
    def backends(self) -> Path:
        """Folder of its backends."""
        return self.path / "backends"

    def environment(self) -> dict[str, str]:
        """The server's environment variables, with which it finds its libraries and its backend finds Python."""
        path = f"{self.path / 'venv' / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
        return os.environ | {"PATH": path, "LD_LIBRARY_PATH": str(self.packages / "nvidia_pytriton.libs")}


def setup(home: Path | None = None) -> TritonHome:
    """Create the server's environment if it does not exist: about 400 MB from the package index.

    Args:
        home: its folder; None for `default_home`.

    Raises:
        TritonSetupError: this Python version or platform is not supported, or a package cannot be installed.
    """
    made = TritonHome(home or default_home())
    if made.ready:
        return made
    if sys.version_info[:2] not in PYTHONS or sys.platform != "linux":
        wanted = " or ".join(f"{major}.{minor}" for major, minor in PYTHONS)
        raise TritonSetupError(
            f"the Triton wheel needs Python {wanted} on Linux, but this is Python {sys.version.split()[0]} on "
            f"{sys.platform}"
        )
    # An incomplete folder has no stamp and is created again.
    shutil.rmtree(made.path, ignore_errors=True)
    venv.create(made.path / "venv", with_pip=True)
    python = str(made.path / "venv" / "bin" / "python")
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for arguments in (("--no-deps", SERVER), PACKAGES):
        done = subprocess.run([*pip, *arguments], capture_output=True, text=True, check=False)
        if done.returncode:
            raise TritonSetupError(f"{' '.join(arguments)} cannot be installed:\n{done.stderr.strip()}")
    carried = made.packages / "pytriton" / "tritonserver"
    shutil.copytree(carried / "backends", made.backends)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    shutil.copy(carried / "python_backend_stubs" / version / "triton_python_backend_stub", made.backends / "python")
    (made.path / _READY).write_text(_wanted(), encoding="utf-8")
    return made


def _wanted() -> str:
    return "\n".join((sys.version.split()[0], SERVER, *PACKAGES))
