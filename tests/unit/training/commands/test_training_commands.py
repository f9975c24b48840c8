"""Training commands as `sefar` finds them: by entry point, in groups, light to import, with errors of one line."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from small_videos import encode
from typer.testing import CliRunner

from sefar_serve.cli import app, main
from sefar_training import export
from sefar_training.checkpoint import CheckpointInfo, save_checkpoint
from sefar_training.commands.app import app as commands
from sefar_training.config import ModelConfig, TrainConfig
from sefar_training.export import ParityError
from sefar_training.model import create_model

NAMES = ("train", "evaluate", "study", "export", "fuse", "convert", "adapter", "synth", "lists")


def test_sefar_has_every_training_command_in_a_panel_of_its_own() -> None:
    (entry,) = entry_points(group="sefar.commands")
    assert entry.load() is commands
    shown = CliRunner().invoke(app, ["--help"], terminal_width=120).output
    own, train, data = (shown.index(title) for title in ("Serve and recognise", "Train and evaluate", "Training data"))
    assert own < shown.index("│ classify ") < train < shown.index("│ adapter ") < data < shown.index("│ lists ")
    assert all(f"│ {name} " in shown[train:] for name in NAMES)
    assert CliRunner().invoke(app, ["adapter", "compare", "--help"]).exit_code == 0


def test_paragraphs_of_the_help_fill_the_lines() -> None:
    shown = CliRunner().invoke(app, ["train", "--help"], terminal_width=80).output
    lines = [line.strip() for line in shown.splitlines()]
    first = lines.index(next(line for line in lines if line.startswith("For --data,")))
    paragraph = lines[first : lines.index("", first)]
    # The first word of each line would not have fitted on the line before it.
    for line, following in pairwise(paragraph):
        assert len(line) + 1 + len(following.split()[0]) > 76
    assert len(paragraph) > 2


def test_commands_are_imported_without_what_they_train_with() -> None:
    heavy = {"torch", "onnx", "onnxruntime", "cv2", "matplotlib", "transformers", "scipy", "timm", "yaml"}
    script = f"import sys, sefar_training.commands.app; print({heavy!r} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """What `sefar` prints to standard error when it fails, without the terminal's line breaks."""
    monkeypatch.setattr(sys, "argv", ["sefar", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 1
    return " ".join(capsys.readouterr().err.split())


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe of two clips, of which the second is no video."""
    encode(tmp_path / "a.mp4")
    (tmp_path / "b.mp4").write_text("no video")
    (tmp_path / "train.csv").write_text("a.mp4 0\nb.mp4 1\n")
    fields = {
        "out": str(tmp_path / "run"),
        "model": {
            "architecture": {"patch": 16, "dim": 24, "depth": 1, "heads": 3, "stem": "patch"},
            "size": 32,
            "resize": 32,
        },
        "data": {"root": str(tmp_path), "train": "train.csv", "labels": None, "cache_gb": 1},
        "optim": {"epochs": 1, "batch_size": 1, "precision": "fp32"},
    }
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(fields))
    return file


def test_errors_of_training_are_reported_in_one_line(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "data.max_broken allows 0: b.mp4" in run(monkeypatch, capsys, "train", recipe)
    done = CliRunner().invoke(app, ["train", str(recipe), "data.max_broken=1"])
    assert done.exit_code == 0, done.output
    assert done.stdout == f"checkpoint: {recipe.parent / 'run' / 'final'}\n"
    assert "already has a run; add --resume" in run(monkeypatch, capsys, "train", recipe, "data.max_broken=1")
    again = CliRunner().invoke(app, ["train", str(recipe), "data.max_broken=1", "--resume"])
    assert again.exit_code == 0, again.output


def test_what_is_no_recipe_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("clips").mkdir()
    assert "clips is a folder, not a recipe (to train on a folder of clips: sefar train --data clips)" in run(
        monkeypatch, capsys, "train", "clips"
    )
    assert "ucf does not exist; give a YAML file, or the name of a recipe" in run(monkeypatch, capsys, "train", "ucf")
    assert "data.train: the list data/ucf101/" in run(monkeypatch, capsys, "train", "ucf101")


@pytest.mark.parametrize(("state", "told"), [(True, "the same command with --resume"), (False, "nothing is kept")])
def test_ctrl_c_says_what_is_kept(recipe: Path, monkeypatch: pytest.MonkeyPatch, state: bool, told: str) -> None:
    def stop(config: TrainConfig, **_: object) -> None:
        if state:
            config.out.mkdir()
            (config.out / "state.pt").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr("sefar_training.train.train", stop)
    done = CliRunner().invoke(app, ["train", str(recipe)])
    assert done.exit_code == 130 and "stopped. " in done.stderr and told in done.stderr

    monkeypatch.setattr("sefar_training.evaluation.evaluate_model", raise_interrupt)
    done = CliRunner().invoke(app, ["evaluate", "model", "list.csv"])
    assert done.exit_code == 130 and "Joints found so far are kept" in done.stderr


def raise_interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_failed_parity_check_is_reported_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    info = CheckpointInfo(model=ModelConfig(), dataset="none", labels=("a",))
    save_checkpoint(tmp_path / "final", create_model("tiny", 1), info)

    def disagree(*_: object) -> None:
        raise ParityError("logits differs from torch by 1.0 at batch 1")

    monkeypatch.setattr(export, "export_model", disagree)
    told = run(monkeypatch, capsys, "export", tmp_path / "final", "--out", tmp_path / "model.onnx")
    assert "error: logits differs from torch" in told


def test_options_for_your_videos_need_them() -> None:
    for arguments in (["own_pose_16", "--stream", "pose"], ["own_pose_16", "--labels-per-class", "3"]):
        result = CliRunner().invoke(app, ["train", *arguments])
        assert result.exit_code == 2 and "need --data" in result.output
    assert "give a recipe, or --data" in CliRunner().invoke(app, ["train"]).output


def test_a_folder_without_labels_is_said_and_nothing_is_trained(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    encode(tmp_path / "clips" / "a.mp4", frames=8)
    result = CliRunner().invoke(app, ["train", "--data", str(tmp_path / "clips"), "--out", str(tmp_path / "run")])
    assert result.exit_code == 1
    assert "no clip has a label" in result.output
    assert not (tmp_path / "run").exists()
