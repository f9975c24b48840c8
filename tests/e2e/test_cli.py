"""The command line in its own process, as users run it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from e2e_gateway import GatewayProcess
from grey_clips import encode_grey_clip
from PIL import Image

from sefar_serve.settings import shipped_model


def sefar(*arguments: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "sefar_serve", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("clips")
    paths = []
    for number, level in enumerate((30, 200)):
        paths.append(folder / f"{number}.mp4")
        paths[-1].write_bytes(encode_grey_clip([level] * 24))
    return paths


def test_classify_prints_a_table_and_draws_a_sheet(clips: list[Path], tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    shown = sefar("classify", *clips, "--sheet", sheet).stdout
    assert "0.mp4" in shown
    assert "%" in shown
    with Image.open(sheet) as picture:
        assert picture.width > 600
        assert picture.height > 600
    assert [p.name for p in tmp_path.iterdir()] == ["sheet.png"]


def test_json_lines_equal_those_of_the_gateway(clips: list[Path], running_gateway: GatewayProcess) -> None:
    local = [json.loads(line) for line in sefar("classify", *clips, "--json").stdout.splitlines()]
    remote = [
        json.loads(line)
        for line in sefar("classify", *clips, "--json", "--url", running_gateway.url).stdout.splitlines()
    ]
    for here, there in zip(local, remote, strict=True):
        assert (here["name"], here["clip"]) == (there["name"], there["clip"])
        assert [x["index"] for x in here["labels"]] == [x["index"] for x in there["labels"]]
        assert here["reliability"] == pytest.approx(there["reliability"], abs=1e-4)


def test_embed(clips: list[Path], running_gateway: GatewayProcess) -> None:
    for where in ((), ("--url", running_gateway.url)):
        [line] = sefar("embed", clips[0], "--include", "embedding,tokens", "--json", *where).stdout.splitlines()
        assert len(json.loads(line)["embedding"]) == 256
    assert "256" in sefar("embed", clips[0]).stdout


def test_each_window_is_a_row(clips: list[Path]) -> None:
    [line] = sefar("classify", clips[0], "--window", "0.4", "--json").stdout.splitlines()
    assert len(json.loads(line)["timeline"]) >= 4
    assert "0.0–0.4" in sefar("classify", clips[0], "--window", "0.4").stdout


def test_a_bad_file_is_reported_and_the_others_answered(clips: list[Path], tmp_path: Path) -> None:
    text = tmp_path / "notes.mp4"
    text.write_text("not a video " * 50)
    done = sefar("classify", clips[0], text, tmp_path / "absent.mp4", "--json", code=1)
    good, bad, absent = [json.loads(line) for line in done.stdout.splitlines()]
    assert good["object"] == "classification"
    assert bad["error"]["code"] == "not_a_video"
    assert absent["error"]["code"] == "file_not_found"
    assert "2 of 3 videos failed" in done.stderr


def test_no_gateway_at_the_url(clips: list[Path]) -> None:
    assert "no gateway answers" in sefar("classify", clips[0], "--url", "http://127.0.0.1:9", code=1).stderr


def test_info() -> None:
    assert "sefar-synthgym-tiny" in sefar("info").stdout
    described = json.loads(sefar("info", shipped_model(), "--json").stdout)
    assert described["sample_frames"] == [2, 2, 4]
    assert len(described["labels"]) >= 30


def test_the_error_for_a_wrong_model_file(tmp_path: Path) -> None:
    wrong = tmp_path / "model.onnx"
    wrong.write_bytes(b"nothing of the kind")
    assert "cannot be loaded" in sefar("info", wrong, code=1).stderr
    assert "no model file" in sefar("info", tmp_path / "absent.onnx", code=1).stderr


def test_help_and_version() -> None:
    commands = sefar("--help").stdout
    for command in ("serve", "classify", "embed", "info", "synth", "train", "lists", "export"):
        assert command in commands
    assert "--max-batch" in sefar("serve", "--help").stdout
    assert sefar("--version").stdout.startswith("sefar-serve ")


def test_invalid_settings_are_named() -> None:
    assert "--max-batch: must be at least 1, not 0" in sefar("serve", "--max-batch", "0", code=2).stderr
