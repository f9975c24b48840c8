"""Calibration: the temperature, and models that exist already."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from small_videos import encode

from sefar_serve.engine.onnx import OnnxModel
from sefar_serve.reliability import softmax
from sefar_training.calibration import fit_temperature, with_temperature
from sefar_training.calibration.file import calibrate_file
from sefar_training.checkpoint import CheckpointInfo, load_checkpoint, save_checkpoint
from sefar_training.config import ModelConfig
from sefar_training.evaluation import EvaluationError
from sefar_training.export import export_checkpoint
from sefar_training.model import SefarModel, create_model


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_a_factor(factor: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (4000, 5))
    labels = np.array([rng.choice(5, p=row) for row in softmax(logits)])  # type: ignore[arg-type]
    assert fit_temperature(factor * logits, labels) == pytest.approx(factor, rel=0.08)


def test_clips_that_are_all_right_do_not_make_it_sure_of_everything() -> None:
    logits = 4 * np.eye(3)[[0, 1, 2, 0, 1, 2]]
    assert 0.3 < fit_temperature(logits, np.array([0, 1, 2, 0, 1, 2])) < 1


def test_the_classifier_is_divided_in_a_copy(small_model: Callable[..., SefarModel]) -> None:
    model = small_model()
    embedding = torch.randn(4, 256)
    before = model.head.classifier(embedding)
    after = with_temperature(model, 2.0).head.classifier(embedding)
    assert torch.allclose(after, before / 2)
    assert torch.equal(model.head.classifier(embedding), before)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("videos")
    for name, count in {"train": 12, "val": 10}.items():
        for number in range(count):
            encode(root / f"{name}{number}.mp4", 8, brightness=3 * number + len(name), step=1 + 11 * (number % 2))
        (root / f"{name}.csv").write_text("".join(f"{name}{n}.mp4 {n % 2}\n" for n in range(count)))
    return root


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    info = CheckpointInfo(model=ModelConfig(sample_frames=(2, 2)), dataset="made up", labels=("slow", "fast"))
    return save_checkpoint(tmp_path / "final", create_model("tiny", 2, (2, 2)).eval(), info)


def test_an_exported_file_gets_the_output_and_keeps_the_others(videos: Path, checkpoint: Path, tmp_path: Path) -> None:
    plain = export_checkpoint(checkpoint, tmp_path / "plain.onnx").path
    out = tmp_path / "new.onnx"
    (videos / "broken.mp4").write_bytes(b"not a video")
    train = videos / "with_broken.csv"
    train.write_text((videos / "train.csv").read_text() + "broken.mp4 0\n")
    report = calibrate_file(plain, train, videos / "val.csv", videos, out, device="cpu", progress=False)
    assert "12 training clips against 10 held out" in str(report)
    old, new = (OnnxModel(file, device="cpu") for file in (plain, out))
    frames = {"frames": np.random.default_rng(0).integers(0, 255, (2, 4, 64, 64, 3), dtype=np.uint8)}
    before, after = old.run(frames), new.run(frames)
    assert np.array_equal(before.logits, after.logits)
    assert after.familiarity is not None
    assert new.metadata.model_copy(update={"familiarity": None}) == old.metadata
    once = out.read_bytes()
    calibrate_file(out, train, videos / "val.csv", videos, device="cpu", progress=False)  # again: replaced
    assert out.read_bytes() == once


def test_a_checkpoint_is_calibrated_in_its_folder(videos: Path, checkpoint: Path, tmp_path: Path) -> None:
    before, _ = load_checkpoint(checkpoint)
    lists = (videos / "train.csv", videos / "val.csv", videos)
    report = calibrate_file(checkpoint, *lists, device="cpu", progress=False)
    after, info = load_checkpoint(checkpoint)
    assert info.temperature == report.temperature
    weights = [model.head.classifier.weight for model in (before, after)]
    assert torch.allclose(weights[1], weights[0] / report.temperature)
    # A second time there is nothing left to divide by.
    assert calibrate_file(checkpoint, *lists, device="cpu", progress=False).temperature == pytest.approx(
        report.temperature, rel=0.01
    )
    known = OnnxModel(export_checkpoint(checkpoint, tmp_path / "model.onnx").path, device="cpu").metadata.familiarity
    assert known is not None and known.held_out == 10
    with pytest.raises(EvaluationError, match="--out"):
        calibrate_file(checkpoint, *lists, tmp_path / "x.onnx", device="cpu", progress=False)
