"""Models trained on joints that are known: what they say of themselves, and where they are refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from pose_models import fake_estimators
from stick_figures import figure, write_figures

from sefar_serve.engine.onnx import OnnxModel
from sefar_serve.lists import ClipKey
from sefar_serve.pose import PoseMismatchError
from sefar_serve.pose.fake import FakeEstimator
from sefar_training.checkpoint import CheckpointError, read_info
from sefar_training.config import TrainConfig
from sefar_training.data import StoredJointsError, TrueJoints
from sefar_training.evaluation import EvaluationError, evaluate_model
from sefar_training.export import export_checkpoint
from sefar_training.inputs import create_inputs
from sefar_training.joint_archive import write_joints
from sefar_training.train import train

TRUE = ("true:figures", "ab" * 32)


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips whose joints are estimated and known; labels alternate."""
    root = write_figures(tmp_path_factory.mktemp("figures"), {"train": 12, "test": 12})
    rng = np.random.default_rng(1)
    for split in ("train", "test"):
        known = {f"{split}{n}.mp4": figure(rng, n % 2) for n in range(12)}
        write_joints(root / "joints", split, known, *TRUE)
    return root


def recipe(root: Path, out: Path, stream: str = "pose", **data: object) -> TrainConfig:
    architecture = {"dim": 256, "depth": 1, "heads": 2, "stem": "joints"} if stream == "pose" else None
    return TrainConfig.model_validate(
        {
            "out": out,
            "model": {"stream": stream, "architecture": architecture, "dropout": 0.1},
            "data": {"root": root, "train": "train.csv", "test": "test.csv"} | data,
            "optim": {"epochs": 1, "steps_per_epoch": 1, "batch_size": 4, "precision": "fp32"},
        }
    )


@pytest.fixture(scope="module")
def final(figures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(recipe(figures, tmp_path_factory.mktemp("run"), true_joints="joints"), progress=False)


def test_a_run_on_true_joints_needs_no_estimator_and_says_what_it_saw(figures: Path, final: Path) -> None:
    info = read_info(final)
    assert (info.estimator, info.estimator_sha256) == TRUE
    assert info.recipe is not None and info.recipe["data"]["true_joints"] == "joints"
    report = evaluate_model(final, figures / "test.csv", figures, progress=False, joints=figures / "joints")
    assert report.top1 == info.metrics["test"]["top1"]


def test_true_and_estimated_joints_are_not_confused(figures: Path, final: Path, tmp_path: Path) -> None:
    test = figures / "test.csv"
    with pytest.raises(
        EvaluationError, match=r"trained on true joints \(figures\).* --joints, e\.g\..*export --estimated-joints"
    ):
        evaluate_model(final, test, figures, progress=False)
    with pytest.raises(EvaluationError, match=r"true joints \(figures\), but these are of fake"):
        evaluate_model(final, test, figures, joints=figures / ".sefar" / "joints", estimator=FakeEstimator())
    with pytest.raises(StoredJointsError, match=r"data\.joints is for estimated ones; set data\.true_joints"):
        create_inputs(recipe(figures, tmp_path, joints=figures / "joints"), estimator=FakeEstimator())
    with pytest.raises(ValueError, match="joints and true_joints are both set"):
        recipe(figures, tmp_path, joints="a", true_joints="b")
    with pytest.raises(ValueError, match=r"true_joints needs model\.stream pose"):
        recipe(figures, tmp_path, "rgb", true_joints="joints")


def test_the_exported_model_is_refused_unless_it_is_exported_for_estimated_joints(
    figures: Path, final: Path, tmp_path: Path
) -> None:
    known = export_checkpoint(final, tmp_path / "known.onnx").path
    with pytest.raises(PoseMismatchError, match=r"true joints \(figures\).* `sefar export --estimated-joints`"):
        fake_estimators().of(OnnxModel(known, device="cpu").metadata)
    served = export_checkpoint(final, tmp_path / "served.onnx", estimator=FakeEstimator()).path
    assert fake_estimators().of(OnnxModel(served, device="cpu").metadata) is not None
    estimated = evaluate_model(served, figures / "test.csv", figures, progress=False, estimator=FakeEstimator())
    assert estimated.clips == 12
    with pytest.raises(EvaluationError, match="the model sees those of fake; omit --joints"):
        evaluate_model(served, figures / "test.csv", figures, joints=figures / "joints")


def test_a_model_of_estimated_joints_needs_no_such_export(figures: Path, tmp_path: Path) -> None:
    estimated = train(recipe(figures, tmp_path / "run"), progress=False, estimator=FakeEstimator())
    with pytest.raises(CheckpointError, match="was not trained on true joints; leave out --estimated-joints"):
        export_checkpoint(estimated, tmp_path / "model.onnx", estimator=FakeEstimator())


def test_true_joints_that_do_not_fit_are_named(figures: Path, tmp_path: Path) -> None:
    shutil.copytree(figures / "joints", tmp_path / "joints")
    with pytest.raises(StoredJointsError, match=r"has no joints\.json, so no true joints"):
        TrueJoints(tmp_path, 1)
    with pytest.raises(StoredJointsError, match=r"shape \(24, 1, 15, 4\), expected \(frames, 2, 15, 4\)"):
        TrueJoints(figures / "joints", 2).read([ClipKey(figures / "test0.mp4")])
    with pytest.raises(StoredJointsError, match=r"no joints of 1 of 2 clips, e\.g\. .*gone\.mp4"):
        TrueJoints(figures / "joints", 1).read([ClipKey(figures / name) for name in ("test0.mp4", "gone.mp4")])
    with pytest.raises(StoredJointsError, match=r"whole files only, and .*test0\.mp4#t=0,1\.5 is a span of one"):
        TrueJoints(figures / "joints", 1).read([ClipKey(figures / "test0.mp4", None, 1.5)])
    (tmp_path / "joints" / "train.npz").write_bytes(b"PK damaged")
    with pytest.raises(StoredJointsError, match=r"train\.npz is damaged"):
        TrueJoints(tmp_path / "joints", 1).read([ClipKey(tmp_path / "train0.mp4")])
    (tmp_path / "joints" / "joints.json").write_text("{}")
    with pytest.raises(StoredJointsError, match="damaged description"):
        TrueJoints(tmp_path / "joints", 1)
