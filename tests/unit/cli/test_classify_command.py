"""Errors of `sefar classify` and the other commands about files, before a model is loaded."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sefar_serve.cli import app, main


def words(*arguments: str | Path, code: int) -> str:
    """What a command prints, without the frames and line breaks of a terminal."""
    done = CliRunner().invoke(app, [*map(str, arguments)], terminal_width=200)
    assert done.exit_code == code, done.output
    return " ".join(done.output.replace("│", " ").split())


@pytest.mark.parametrize("option", ["--start", "--end", "--window", "--stride"])
def test_a_time_is_a_number_of_seconds(option: str) -> None:
    assert "'1:20' is not a number of seconds" in words("classify", "a.mp4", option, "1:20", code=2)


def test_other_options_are_explained_too() -> None:
    assert "'x' is not a whole number" in words("classify", "a.mp4", "--top-k", "x", code=2)
    assert "must be at least 1, not 0" in words("classify", "a.mp4", "--top-k", "0", code=2)


@pytest.mark.parametrize("command", ["classify", "embed"])
def test_a_stride_needs_a_window(command: str) -> None:
    assert "--stride needs --window" in words(command, "a.mp4", "--stride", "1", code=2)


@pytest.mark.parametrize("form", ["csv", "vtt", "label-studio", "elan"])
def test_a_format_of_segments_needs_a_window(form: str) -> None:
    assert f"--format {form} needs --window" in words("classify", "a.mp4", "--format", form, code=2)


@pytest.mark.parametrize("option", ["--smoothing", "--min-segment", "--background"])
def test_an_option_of_segments_needs_a_window(option: str) -> None:
    assert f"{option} needs --window" in words("classify", "a.mp4", option, "1", code=2)


def test_where_segments_are_written_is_checked_first(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    vtt = ("--window", "1", "--format", "vtt")
    assert "--out needs --format json, csv, vtt, label-studio, elan" in words(
        "classify", "a.mp4", "--out", tmp_path / "a.csv", code=2
    )
    assert "is a folder; give a file name" in words("classify", "a.mp4", *vtt, "--out", tmp_path, code=2)
    assert "writes one file for each video" in words("classify", "a.mp4", "b.mp4", *vtt, code=2)
    several = ("classify", "a/x.mp4", "b/x.mov")
    assert "is a file; give a folder" in words(*several, *vtt, "--out", tmp_path / "file", code=2)
    assert "two videos would be written to" in words(*several, *vtt, "--out", tmp_path, code=2)


def test_json_is_one_format() -> None:
    assert "--json is --format json" in words("classify", "a.mp4", "--json", "--format", "csv", code=2)


def test_the_sheet_is_checked_first(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "is a folder; give a file name" in words("classify", "a.mp4", "--sheet", tmp_path, code=2)
    assert "does not end in .png" in words("classify", "a.mp4", "--sheet", tmp_path / "a.jpg", code=2)
    assert "is a file, so" in words("classify", "a.mp4", "--sheet", tmp_path / "file" / "a.png", code=2)
    assert "does not end in .png" in words("pose", "show", "a.mp4", "--out", tmp_path / "a.jpg", code=2)


@pytest.mark.parametrize("command", ["classify", "embed"])
def test_a_url_stays_a_url(command: str) -> None:
    done = CliRunner().invoke(app, [command, "http://x.y/a.mp4", "--json"])
    assert done.exit_code == 1
    item = json.loads(done.stdout.splitlines()[0])
    assert item["name"] == "http://x.y/a.mp4"
    assert item["error"]["code"] == "url_not_allowed"
    assert "`url_hosts` (SEFAR_URL_HOSTS)" in item["error"]["message"]


def test_a_gateway_as_model_is_explained(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["sefar", "classify", "a.mp4", "--model", "http://127.0.0.1:8000"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert "http://127.0.0.1:8000 is not a model" in capsys.readouterr().err


def test_an_error_of_the_system_names_the_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["sefar", "evaluate", "model.onnx", "nope.txt"])
    with pytest.raises(SystemExit):
        main()
    assert capsys.readouterr().err == "error: nope.txt does not exist\n"
