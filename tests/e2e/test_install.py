"""The wheel, installed into a new environment: it needs no torch and includes the shipped model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

from grey_clips import encode_grey_clip

ROOT = Path(__file__).resolve().parents[2]
UV = Path(sys.executable).with_name("uv")


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=300, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_install_the_wheel_and_classify(tmp_path: Path) -> None:
    run(UV, "build", "-q", "--wheel", "--python", sys.executable, "-o", tmp_path / "dist", ROOT, cwd=tmp_path)
    [wheel] = (tmp_path / "dist").glob("*.whl")
    packed = set(ZipFile(wheel).namelist())
    for kind in ("recipes", "studies"):
        assert packed >= {f"sefar_training/{kind}/{file.name}" for file in (ROOT / "training" / kind).iterdir()}
    run(UV, "venv", "-q", "--python", sys.executable, tmp_path / "venv", cwd=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    constraints = ROOT / "constraints.txt"
    run(UV, "pip", "install", "-q", "--python", python, "-c", constraints, f"{wheel}[cpu]", cwd=tmp_path)
    installed = run(UV, "pip", "list", "-q", "--format", "json", "--python", python, cwd=tmp_path)
    names = {package["name"] for package in json.loads(installed)}
    assert not names & {"torch", "torchvision", "timm", "transformers", "opencv-python-headless"}
    (tmp_path / "clip.mp4").write_bytes(encode_grey_clip([90] * 20))
    shown = run(python.with_name("sefar"), "classify", "clip.mp4", "--json", cwd=tmp_path)
    label = json.loads(shown)["labels"][0]["label"]
    program = "import sefar_serve as sefar; print(sefar.load().classify('clip.mp4').best.label)"
    assert run(python, "-W", "error", "-c", program, cwd=tmp_path) == f"{label}\n"
