"""`sefar classify`, `embed` and `extract` with a tiny ONNX file that sees joints, and with one of pictures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from coloured_persons import entering_person, walking_person
from PIL import Image, ImageColor
from pose_models import BOTH, POSE, fake_estimator, fake_estimators, write_tiny_model
from typer.testing import CliRunner, Result

from sefar_client import Classification
from sefar_features import open_features
from sefar_serve.cli import app
from sefar_serve.extract.shards import saved_clips
from sefar_serve.inputs import load_inputs
from sefar_serve.model import Model
from sefar_serve.pose import JOINTS

PERSON = "#dc1e1e"
"""Colour of the walking person."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    for meta in (POSE, BOTH):
        write_tiny_model(folder / f"{meta.name}.onnx", meta)
    (folder / "videos").mkdir()
    (folder / "videos" / "walking.mp4").write_bytes(walking_person())
    (folder / "entering.mp4").write_bytes(entering_person())
    return folder


@pytest.fixture(autouse=True)
def _fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sefar_serve.assemble.make_estimator", fake_estimator)


def sefar(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)], terminal_width=200)


def classify(files: Path, *more: str | Path) -> Result:
    return sefar("classify", files / "videos" / "walking.mp4", "--model", files / "poses.onnx", *more)


def words(done: Result) -> str:
    """What was printed, without the frames and line breaks of a terminal."""
    return " ".join(done.output.replace("│", " ").split())


def reddish(sheet: Path) -> int:
    """Pixels of about the person's colour."""
    with Image.open(sheet) as picture:
        far = np.asarray(picture.convert("RGB")).astype(int) - ImageColor.getrgb(PERSON)
    return int((np.abs(far).max(axis=-1) < 25).sum())


def test_json_has_joints_if_requested(files: Path) -> None:
    expected = load_inputs(files / "videos" / "walking.mp4", POSE, fake_estimators()).poses
    assert expected is not None
    for command in ("classify", "embed"):
        done = sefar(command, files / "videos" / "walking.mp4", "--model", files / "poses.onnx", "--json", "--poses")
        assert done.exit_code == 0, done.output
        pose = json.loads(done.stdout)["clip"]["pose"]
        assert pose["joint_names"] == list(JOINTS)
        np.testing.assert_array_equal(np.float32(pose["joints"]), expected.joints)


def test_tables_say_where_nobody_was_found(files: Path) -> None:
    for command in ("classify", "embed"):
        done = sefar(command, files / "entering.mp4", "--model", files / "poses.onnx", "--end", "1")
        assert "warning: no person found" in words(done), done.output
    rows = words(sefar("classify", files / "entering.mp4", "--model", files / "poses.onnx", "--window", "1"))
    assert rows.count("warning: no person found") == 2  # in its row, and how many there are
    assert "no person found (1 of 3 windows)" in rows


def test_the_sheet_shows_skeletons_and_leaves_no_joints_in_the_json(files: Path, tmp_path: Path) -> None:
    done = classify(files, "--json", "--window", "1", "--sheet", tmp_path / "sheet.png")
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert answer["clip"]["pose"]["found"] == [1.0]
    assert answer["clip"]["pose"]["joints"] is None
    assert all(window["pose"] is None for window in answer["timeline"])
    assert reddish(tmp_path / "sheet.png") > 1000


def test_an_anonymous_sheet_has_no_pixel_of_the_video(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert classify(files, "--anonymous", "--sheet", tmp_path / "by option.png").exit_code == 0
    monkeypatch.setenv("SEFAR_ANONYMOUS", "true")
    assert classify(files, "--sheet", tmp_path / "by variable.png").exit_code == 0
    for sheet in tmp_path.iterdir():
        assert reddish(sheet) == 0


@pytest.mark.parametrize("command", ["classify", "embed", "extract"])
def test_anonymous_needs_a_model_of_joints_alone(files: Path, tmp_path: Path, command: str) -> None:
    out = ["--out", str(tmp_path / "out")] if command == "extract" else []
    source = files / "videos" / ("" if command == "extract" else "walking.mp4")
    done = sefar(command, source, "--model", files / "both.onnx", "--anonymous", *out)
    assert done.exit_code == 1
    assert "the model both sees pictures and joints" in str(done.exception)
    assert not list(tmp_path.iterdir())


def test_options_that_do_not_go_together(files: Path) -> None:
    done = classify(files, "--poses")
    assert done.exit_code == 2 and "--poses needs --json" in words(done)
    done = classify(files, "--anonymous", "--url", "http://127.0.0.1:9")
    assert done.exit_code == 2 and "start the gateway with --anonymous" in words(done)


def test_ctrl_c_says_what_is_kept(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pressed(self: Model, videos: list[str], **options: object) -> Iterator[Classification]:
        yield next(classified(self, videos[:1], **options))
        raise KeyboardInterrupt

    classified = Model.classify
    monkeypatch.setattr(Model, "classify", pressed)
    done = sefar("classify", *[files / "videos" / "walking.mp4"] * 3, "--model", files / "poses.onnx")
    assert done.exit_code == 130
    assert "stopped after 1 of 3 videos; no results are kept" in words(done)


def test_the_summary_of_an_extraction(files: Path, tmp_path: Path) -> None:
    arguments = ("extract", files / "videos", "--model", files / "poses.onnx", "--workers", "1", "--out")
    done = sefar(*arguments, tmp_path / "plain")
    assert f"{tmp_path / 'plain'}: 1 clip, 1 processed\n" in done.output
    done = sefar(*arguments, tmp_path / "joints", "--anonymous")
    assert "1 clip, 1 processed; anonymous: nothing of the videos was kept but joints\n" in done.output
    assert saved_clips(tmp_path / "joints") == 1
    assert saved_clips(tmp_path / "nowhere") == 0


def test_extracted_joints_are_read_back(files: Path, tmp_path: Path) -> None:
    done = sefar(
        *("extract", files / "videos", "--out", tmp_path / "features", "--model", files / "poses.onnx"),
        *("--poses", "--anonymous", "--workers", "1"),
    )
    assert done.exit_code == 0, done.output
    features = open_features(tmp_path / "features")
    expected = load_inputs(files / "videos" / "walking.mp4", POSE, fake_estimators()).poses
    assert expected is not None
    [joints] = features.poses()
    np.testing.assert_array_equal(joints[0], expected.joints)
    assert features.pose_description.estimator == "fake"
