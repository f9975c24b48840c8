"""`sefar pose`: setting up from a wheel, and drawing what was found; errors without tracebacks."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from grey_clips import encode_grey_clip
from PIL import Image
from typer.testing import CliRunner

from sefar_serve.cli import app
from sefar_serve.cli import pose as commands
from sefar_serve.pose import PoseSetupError
from sefar_serve.pose.fake import FakeEstimator


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    path.write_bytes(encode_grey_clip([128] * 12))
    return path


def test_show_draws_every_frame_and_tells_the_warnings(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "make_estimator", lambda home: FakeEstimator())
    out = tmp_path / "sheets" / "sheet.png"
    done = CliRunner().invoke(app, ["pose", "show", str(clip), "-o", str(out), "--frames", "6", "--persons", "2"])
    assert done.exit_code == 0, done.output
    assert "no person found" in done.output
    with Image.open(out) as sheet:
        assert sheet.size == (4 * (commands.THUMB + 4) + 4, 2 * (commands.THUMB + 4) + 4)


def test_without_the_extra_the_message_says_what_to_install(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    monkeypatch.delitem(sys.modules, "ai_edge_litert.interpreter", raising=False)
    monkeypatch.delitem(sys.modules, "sefar_serve.pose.litert", raising=False)
    done = CliRunner().invoke(app, ["pose", "show", str(clip), "-o", str(tmp_path / "sheet.png")])
    assert isinstance(done.exception, ModuleNotFoundError)
    assert "pip install 'sefar-serve[pose]'" in str(done.exception)


def test_setup_refuses_what_is_no_wheel(clip: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["pose", "setup", "--home", str(tmp_path / "home"), "--wheel", str(clip)])
    assert isinstance(done.exception, PoseSetupError)
