"""A Triton server from a Python wheel, for machines without Docker: an environment of its own, set up once.

nvidia-pytriton carries NVIDIA's `tritonserver` with the Python backend and pins numpy below 2, so it lives apart
from what calls it. Only the server is taken from it: its Python dependencies are not installed.
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
"""Pythons for which the wheel has a backend and numpy below 2 has wheels."""

SERVER = "nvidia-pytriton==0.7.0"
PACKAGES = ("numpy==1.26.4", "onnxruntime==1.32.0")
"""What the served model.py imports."""

_READY = ".ready"


class TritonSetupError(EngineError):
    """The server's environment cannot be made, or is not there."""


def default_home() -> Path:
    """Where the environment is unless told otherwise: SEFAR_TRITON_HOME, else the user's cache folder."""
    if home := os.environ.get("SEFAR_TRITON_HOME"):
        return Path(home)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "sefar-serve" / f"triton-{SERVER.rpartition('=')[2]}"


@dataclass(frozen=True)
class TritonHome:
    """An environment that `setup` made."""

    path: Path

    @property
    def ready(self) -> bool:
        """Whether it was made to the end, with what is asked for now."""
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
        """Variables the server is started with: it finds its libraries, and the backend its Python."""
        path = f"{self.path / 'venv' / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
        return os.environ | {"PATH": path, "LD_LIBRARY_PATH": str(self.packages / "nvidia_pytriton.libs")}


def setup(home: Path | None = None) -> TritonHome:
    """Make the server's environment, unless it is there; about 400 MB, from the package index.

    Args:
        home: its folder; None for `default_home`.

    Raises:
        TritonSetupError: this Python does not suit, or a package cannot be installed.
    """
    made = TritonHome(home or default_home())
    if made.ready:
        return made
    if sys.version_info[:2] not in PYTHONS or sys.platform != "linux":
        wanted = " or ".join(f"{major}.{minor}" for major, minor in PYTHONS)
        raise TritonSetupError(f"the server's wheel needs Python {wanted} on Linux, this is {sys.version.split()[0]}")
    # A folder that was left half made has no stamp and is made anew.
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
