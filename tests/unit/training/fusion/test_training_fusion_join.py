"""Which models can be joined, and what is said of those that cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
from pose_models import BOTH, POSE

from sefar_serve.metadata import ModelMetadata
from sefar_training.evaluation import EvaluationError
from sefar_training.fusion import FusionError, Pair, check_fit, fuse

RGB = ModelMetadata(
    name="frames",
    version="1",
    dataset="none",
    sample_frames=(2, 2, 4),
    resize=40,
    size=32,
    labels=POSE.labels,
    embedding_dim=8,
    token_dim=4,
)


def changed(meta: ModelMetadata, **fields: Any) -> ModelMetadata:
    return ModelMetadata(**meta.model_dump() | fields)


def test_models_of_the_same_classes_and_frames_fit() -> None:
    check_fit(RGB, POSE)
    check_fit(RGB, changed(POSE, persons=2, embedding_dim=16, token_dim=2))


@pytest.mark.parametrize(
    ("rgb", "pose", "told"),
    [
        (POSE, RGB, "poses has the stream pose, expected rgb; give a model of frames first"),
        (RGB, RGB, "frames has the stream rgb, expected pose"),
        (RGB, BOTH, "both has the stream both, expected pose"),
        (RGB, changed(POSE, labels=("a", "b")), "3 in the model of frames, 2 in the model of joints; train both"),
        (RGB, changed(POSE, labels=("a", "x", "c")), "class 1 is 'b' in the model of frames, 'x' in"),
        (RGB, changed(POSE, sample_frames=(4, 4, 8)), r"sample_frames is \[2, 2, 4\] in the model of frames, but \[4"),
        (RGB, changed(POSE, layout="local"), "layout is interleaved in the model of frames, but local"),
        (RGB, changed(POSE, mc_samples=4), "10 and 4 Monte-Carlo samples; export both again"),
    ],
)
def test_models_that_do_not_fit_are_refused(rgb: ModelMetadata, pose: ModelMetadata, told: str) -> None:
    with pytest.raises(FusionError, match=told):
        check_fit(rgb, pose)


def test_other_operator_sets_are_refused(untrained_model: Path, untrained_pose: Path, tmp_path: Path) -> None:
    proto = onnx.load(untrained_pose)
    proto.opset_import[0].version += 1
    onnx.save(proto, tmp_path / "newer.onnx")
    pair = Pair(untrained_model, tmp_path / "newer.onnx")
    with pytest.raises(FusionError, match=r"operator sets .* export both again"):
        pair.graph(pair.metadata(0.5))


def test_a_model_that_does_not_exist_is_named(untrained_model: Path, tmp_path: Path) -> None:
    (tmp_path / "val.csv").write_text("a.mp4 0\n")
    with pytest.raises(EvaluationError, match="gone does not exist; give a checkpoint folder"):
        fuse(untrained_model, tmp_path / "gone", tmp_path / "both.onnx", tmp_path / "val.csv", tmp_path)
