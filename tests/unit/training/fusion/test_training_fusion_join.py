"""Which models can be joined, and what is said of those that cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from pose_models import BOTH, POSE

from sefar_serve.engine.onnx import OnnxModel
from sefar_serve.metadata import ModelMetadata
from sefar_training.evaluation import EvaluationError
from sefar_training.familiarity import add_familiarity
from sefar_training.fusion import FusionError, Pair, check_fit, fuse, write_joined
from sefar_training.typical import fit_typical

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


def knowing(file: Path, to: Path, seed: int) -> Path:
    """A copy of an exported file that measures familiarity."""
    model, rng = OnnxModel(file, device="cpu"), np.random.default_rng(seed)
    train, held_out = (rng.normal(0, 1, (count, model.metadata.token_dim)) for count in (40, 20))
    typical = fit_typical(train, held_out)
    proto = onnx.load(file)
    add_familiarity(proto, typical, model.metadata.model_copy(update={"familiarity": typical.info}))
    onnx.save(proto, to)
    return to


def test_the_lower_familiarity_counts(untrained_model: Path, untrained_pose: Path, tmp_path: Path) -> None:
    rgb = knowing(untrained_model, tmp_path / "rgb.onnx", 0)
    pose = knowing(untrained_pose, tmp_path / "pose.onnx", 1)
    rng = np.random.default_rng(2)
    inputs = {"frames": rng.integers(0, 255, (6, 8, 64, 64, 3), np.uint8), "poses": rng.random((6, 8, 1, 15, 4), "f4")}
    of_rgb, of_pose = (
        OnnxModel(file, device="cpu").run({name: inputs[name]}).familiarity
        for file, name in ((rgb, "frames"), (pose, "poses"))
    )
    assert of_rgb is not None and of_pose is not None
    for pair, weight, expected, method in (
        ((rgb, pose), 0.3, np.minimum(of_rgb, of_pose), "min(knn5, knn5)"),
        ((rgb, pose), 1.0, of_pose, "knn5"),  # what has no share in the answer does not count
        ((rgb, untrained_pose), 0.3, of_rgb, "knn5"),
    ):
        write_joined(Pair(*pair), weight, tmp_path / "both.onnx")
        both = OnnxModel(tmp_path / "both.onnx", device="cpu")
        np.testing.assert_allclose(both.run(inputs).familiarity, expected, atol=1e-5)
        assert both.metadata.familiarity is not None and both.metadata.familiarity.method == method
    write_joined(Pair(untrained_model, untrained_pose), 0.3, tmp_path / "both.onnx")
    assert OnnxModel(tmp_path / "both.onnx", device="cpu").metadata.familiarity is None
