"""`sefar info`: what a model sees, for each stream."""

from __future__ import annotations

from pathlib import Path

import pytest
from pose_models import BOTH, POSE, write_tiny_model
from typer.testing import CliRunner

from sefar_serve.cli import app
from sefar_serve.metadata import ModelMetadata


def shown(tmp_path: Path, metadata: ModelMetadata, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", "400")
    done = CliRunner().invoke(app, ["info", str(write_tiny_model(tmp_path / "model.onnx", metadata))])
    assert done.exit_code == 0, done.output
    return done.output


def test_joints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(tmp_path, POSE, monkeypatch)
    assert "15 of 1 person: nose, left_shoulder" in text
    assert f"fake, SHA-256 {'0' * 64}" in text
    assert "centre crop" not in text and "weight" not in text


def test_pictures_and_joints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(tmp_path, BOTH, monkeypatch)
    assert "pictures and joints" in text
    assert "short side 40 px, centre crop 32 px" in text
    assert "15 of 2 persons" in text
    assert "0.2, of the pictures 0.8" in text


def test_json(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["info", str(write_tiny_model(tmp_path / "model.onnx", BOTH)), "--json"])
    assert ModelMetadata.model_validate_json(done.output) == BOTH
