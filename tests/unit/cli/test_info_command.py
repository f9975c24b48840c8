"""`sefar info`: what a model sees, for each stream."""

from __future__ import annotations

import re
from pathlib import Path

from pose_models import BOTH, POSE, write_tiny_model
from typer.testing import CliRunner

from sefar_serve.cli import app
from sefar_serve.metadata import ModelMetadata


def shown(tmp_path: Path, metadata: ModelMetadata) -> str:
    """The table without spaces and lines, since the width of the terminal decides where it wraps."""
    done = CliRunner().invoke(app, ["info", str(write_tiny_model(tmp_path / "model.onnx", metadata))])
    assert done.exit_code == 0, done.output
    return re.sub(r"[\s│]", "", done.output)


def test_joints(tmp_path: Path) -> None:
    text = shown(tmp_path, POSE)
    assert "15of1person:nose,left_shoulder" in text
    assert f"fake,SHA-256{'0' * 12}…" in text
    assert "centrecrop" not in text and "weight" not in text


def test_pictures_and_joints(tmp_path: Path) -> None:
    text = shown(tmp_path, BOTH)
    assert "picturesandjoints" in text
    assert "shortside40px,centrecrop32px" in text
    assert "15of2persons" in text
    assert "0.2,ofthepictures0.8" in text


def test_json(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["info", str(write_tiny_model(tmp_path / "model.onnx", BOTH)), "--json"])
    assert ModelMetadata.model_validate_json(done.output) == BOTH
