"""`sefar serve`: its help, and errors about its flags."""

from __future__ import annotations

import re
import sys

import pytest
from typer.testing import CliRunner

from sefar_serve.cli import app, main
from sefar_serve.settings import Settings


def test_the_help_has_every_setting_in_plain_words() -> None:
    shown = CliRunner().invoke(app, ["serve", "--help"]).output
    for name in Settings.model_fields:
        assert "--" + name.replace("_", "-") in shown
    assert "COMMA-SEPARATED" in shown
    assert not re.search(r"tuple|SecretStr|factory|None|``|default: \(\)", shown)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prot", "80"], "unknown flag --prot; did you mean --port?"),
        (["--port"], "--port needs a value"),
        (["m.onnx"], "unexpected argument 'm.onnx'; each setting is a flag, e.g. --model m.onnx"),
        (["--no-text-only-chat", "--port=x"], "--port: 'x' is not a whole number"),
    ],
)
def test_a_wrong_flag_is_one_line(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["sefar", "serve", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"error: {message}\n"
