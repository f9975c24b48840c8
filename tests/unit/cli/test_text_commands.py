"""`sefar ask` refuses a question that a language model would invent an answer to."""

from __future__ import annotations

from pathlib import Path

import pytest
from grey_clips import encode_grey_clip
from typer.testing import CliRunner

from sefar_serve.cli import app


@pytest.mark.parametrize("question", ["", "  "])
def test_an_empty_question(tmp_path: Path, question: str) -> None:
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(encode_grey_clip([128] * 12))
    done = CliRunner().invoke(app, ["ask", str(clip), question])
    assert done.exit_code == 1
    assert "the last message is empty; ask something" in " ".join(done.output.split())
