"""Runs on joints from recipe to ONNX file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from stick_figures import write_figures

from sefar_serve.pose.fake import FakeEstimator
from sefar_serve.pose.joints import JOINTS
from sefar_training.checkpoint import load_checkpoint
from sefar_training.config import TrainConfig
from sefar_training.evaluation import EvaluationError, Views, evaluate_model
from sefar_training.export import export_checkpoint
from sefar_training.recipe import RecipeError
from sefar_training.train import final_sources, train


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_figures(tmp_path_factory.mktemp("figures"), {"train": 12, "unlabel": 24, "val": 20, "test": 20})


def recipe(root: Path, out: Path, **changes: Any) -> TrainConfig:
    fields: dict[str, Any] = {
        "out": out,
        "model": {
            "stream": "pose",
            "architecture": {"dim": 256, "depth": 1, "heads": 2, "stem": "joints"},
            "dropout": 0.1,
        },
        "data": {"root": root, "train": "train.csv", "unlabel": "unlabel.csv", "test": "test.csv"},
        "optim": {"epochs": 20, "steps_per_epoch": 4, "batch_size": 12, "lr": 3e-3, "precision": "fp32"},
        "semi": {"batch_size": 12, "start_epoch": 2, "teacher_decay": 0.9},
    }
    return TrainConfig.model_validate(fields | changes)


def top1(folder: Path) -> float:
    return load_checkpoint(folder)[1].metrics["test"]["top1"]


@pytest.mark.parametrize("method", ["supervised", "sefar"])
def test_raising_and_lowering_an_arm_are_told_apart(figures: Path, tmp_path: Path, method: str) -> None:
    final = train(recipe(figures, tmp_path, method=method), progress=False, estimator=FakeEstimator())
    assert top1(final) > 0.9


def test_checkpoint_and_exported_file_are_evaluated_alike(figures: Path, tmp_path: Path) -> None:
    final = train(recipe(figures, tmp_path / "run"), progress=False, estimator=FakeEstimator())
    exported = export_checkpoint(final, tmp_path / "model.onnx")
    assert max(exported.differences.values()) < 1e-3
    reports = [
        evaluate_model(model, figures / "test.csv", figures, progress=False, estimator=FakeEstimator())
        for model in (final, exported.path)
    ]
    assert reports[0].top1 == reports[1].top1 == top1(final)
    two = evaluate_model(
        exported.path, figures / "test.csv", figures, progress=False, views=Views(2), estimator=FakeEstimator()
    )
    assert (two.clips, two.temporal_views) == (20, 2)
    with pytest.raises(EvaluationError, match="not cropped; set --spatial-crops to 1"):
        evaluate_model(final, figures / "test.csv", figures, views=Views(1, 3), estimator=FakeEstimator())
    other = FakeEstimator()
    other.sha256 = "1" * 64
    with pytest.raises(EvaluationError, match="was trained with the pose estimator fake"):
        evaluate_model(final, figures / "test.csv", figures, estimator=other)


def test_checkpoint_says_what_found_the_joints(figures: Path, tmp_path: Path) -> None:
    config = recipe(figures, tmp_path / "run", optim={"epochs": 1, "precision": "fp32"})
    final = train(config, progress=False, estimator=FakeEstimator())
    _, info = load_checkpoint(final)
    assert (info.estimator, info.estimator_sha256) == (FakeEstimator.name, FakeEstimator.sha256)
    export_checkpoint(final, tmp_path / "model.onnx")
    from sefar_training.evaluation import onnx_predictor

    _, about = onnx_predictor(tmp_path / "model.onnx")
    assert (about.stream, about.joints, about.persons, about.size) == ("pose", JOINTS, 1, None)
    assert (about.estimator, about.estimator_sha256) == (FakeEstimator.name, FakeEstimator.sha256)


def test_a_resumed_run_ends_as_one_without_a_break(figures: Path, tmp_path: Path) -> None:
    optim = {"epochs": 2, "steps_per_epoch": 3, "batch_size": 4, "precision": "fp32"}
    changes = {"method": "sefar", "optim": optim, "semi": {"batch_size": 4, "start_epoch": 0}}
    ends = [train(recipe(figures, tmp_path / "a", **changes), progress=False, estimator=FakeEstimator())]
    # The second run stops after its first epoch, as if it had been killed.
    config = recipe(figures, tmp_path / "b", **changes)
    state = tmp_path / "b" / "state.pt"
    with pytest.raises(KeyboardInterrupt), pytest.MonkeyPatch.context() as patched:
        patched.setattr("sefar_training.loop.TrainingLoop._track", stop_in_epoch(1))
        train(config, progress=False, estimator=FakeEstimator())
    assert torch.load(state, weights_only=True)["epoch"] == 1
    ends.append(train(config, resume=True, progress=False, estimator=FakeEstimator()))
    a, b = (load_checkpoint(end)[0].state_dict() for end in ends)
    assert all(torch.equal(a[name], b[name]) for name in a)
    lines = [json.loads(line) for line in (tmp_path / "b" / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [0, 1]


def stop_in_epoch(epoch: int) -> Any:
    def track(loop: Any, *_: Any) -> None:
        if loop.epoch == epoch:
            raise KeyboardInterrupt

    return track


@pytest.mark.parametrize(("first_weights", "kept"), [(0.01, "average"), (1.0, "student")])
def test_final_is_the_better_of_average_and_student(
    figures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first_weights: float, kept: str
) -> None:
    # With a share of 1 the average stays what it was after the first step.
    monkeypatch.setattr("sefar_training.semisupervised.step.FIRST_WEIGHTS", first_weights)
    config = recipe(
        figures,
        tmp_path,
        data={"root": figures, "train": "train.csv", "val": "val.csv", "test": "test.csv"},
        semi={"teacher_decay": 0.999999 if kept == "student" else 0.5, "teacher_warmup": False, "start_epoch": 0},
    )
    final = train(config, progress=False, estimator=FakeEstimator())
    model, info = load_checkpoint(final)
    student, of_student = load_checkpoint(tmp_path / "student")
    assert (info.metrics["weights"], of_student.metrics["weights"]) == (kept, "student")
    same = all(torch.equal(value, student.state_dict()[name]) for name, value in model.state_dict().items())
    assert same == (kept == "student")
    assert info.metrics["test"]["top1"] > 0.9


def test_only_a_better_student_becomes_final() -> None:
    both = ("final", "student")
    assert final_sources(both, {"top1": 0.5, "student_top1": 0.5}) == {"final": "final", "student": "student"}
    assert final_sources(both, {"top1": 0.5, "student_top1": 0.6}) == {"final": "student", "student": "student"}
    assert final_sources(both, {"loss": 0.1})["final"] == "final"
    assert final_sources(["final"], {}) == {"final": "final"}


def test_what_does_not_fit_joints_is_named(figures: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="channel-flip reverses the colours of frames, and joints have none"):
        recipe(figures, tmp_path, semi={"perturbation": "channel-flip"})
    with pytest.raises(ValueError, match="variant tiny sees rgb, but stream is pose; set stream to rgb, or variant to"):
        recipe(figures, tmp_path, model={"stream": "pose", "variant": "tiny"})
    with pytest.raises(ValueError, match="variant pose-tiny sees pose, but stream is rgb"):
        recipe(figures, tmp_path, model={"variant": "pose-tiny"})
    (tmp_path / "poses.npz").write_bytes(b"")
    data = {"root": figures, "train": "train.csv", "poses": tmp_path / "poses.npz"}
    with pytest.raises(RecipeError, match=r"pretext learns from frames; set model\.stream to rgb, not pose"):
        train(recipe(figures, tmp_path, task="pretext", data=data), progress=False, estimator=FakeEstimator())
