"""Familiarity: what is typical of training clips, and the output of the exported graph that says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from sefar_serve.engine.onnx import OnnxModel
from sefar_serve.metadata import ModelMetadata
from sefar_training.checkpoint import CheckpointInfo, load_checkpoint, save_checkpoint
from sefar_training.config import ModelConfig
from sefar_training.export import export_checkpoint
from sefar_training.familiarity import add_familiarity
from sefar_training.model import create_model
from sefar_training.typical import (
    FILE,
    MOST_REFERENCES,
    Typical,
    TypicalError,
    fit_typical,
    load_typical,
    save_typical,
)


def clips(count: int, seed: int, width: int = 12) -> np.ndarray:
    return np.random.default_rng(seed).normal(3, 1, (count, width))


@pytest.fixture(scope="module")
def typical() -> Typical:
    return fit_typical(clips(80, 0), clips(60, 1))


def test_known_clips_are_evenly_spread_and_others_are_at_zero(typical: Typical) -> None:
    known = np.sort(typical.familiarity(clips(2000, 2)))
    assert np.abs(known - np.linspace(0, 1, 2000)).max() < 0.15
    assert typical.familiarity(clips(50, 3) + 40).max() == 0
    assert (typical.info.method, typical.info.clips, typical.info.held_out) == ("knn5", 80, 60)


def test_held_out_clips_get_the_share_of_those_farther_away(typical: Typical) -> None:
    held_out = clips(60, 1)
    farther = (typical.distance(held_out)[None] > typical.distance(held_out)[:, None]).mean(axis=1)
    assert typical.familiarity(held_out) == pytest.approx(farther + 0.5 / 60, abs=1e-3)


def test_a_single_odd_training_clip_makes_nothing_else_typical() -> None:
    odd = np.concatenate([clips(80, 0), np.full((1, 12), 90.0)])
    assert fit_typical(odd, clips(60, 1)).familiarity(np.full((1, 12), 90.0))[0] == 0


def test_with_few_held_out_clips_a_clip_a_little_farther_away_is_not_at_zero() -> None:
    few = fit_typical(clips(80, 0), clips(12, 1))
    farthest = few.distances[-2]
    beyond = np.interp([farthest, 1.05 * farthest, 3 * farthest], few.distances, few.shares)
    assert beyond[0] == pytest.approx(0.5 / 12)
    assert 0.01 < beyond[1] < beyond[0]
    assert beyond[2] == 0


def test_long_lists_are_cut() -> None:
    assert len(fit_typical(clips(MOST_REFERENCES + 5, 0, 2), clips(20, 1, 2)).reference) == MOST_REFERENCES


@pytest.mark.parametrize(("held_out", "message"), [(clips(9, 1), "at least 10"), (np.ones((20, 12)), "the same")])
def test_what_cannot_be_told_is_an_error(held_out: np.ndarray, message: str) -> None:
    with pytest.raises(TypicalError, match=message):
        fit_typical(clips(30, 0), held_out)


def test_it_is_stored_in_a_folder(typical: Typical, tmp_path: Path) -> None:
    assert load_typical(tmp_path) is None
    save_typical(tmp_path, typical)
    found = load_typical(tmp_path)
    assert found is not None
    assert found.info == typical.info
    assert np.array_equal(found.familiarity(clips(9, 4)), typical.familiarity(clips(9, 4)))
    (tmp_path / FILE).write_bytes(b"no tensors")
    with pytest.raises(TypicalError, match="sefar calibrate"):
        load_typical(tmp_path)


def test_the_graph_computes_the_same(typical: Typical) -> None:
    """On clips near and far: exporting compares random frames, which are all far away."""
    metadata = ModelMetadata(
        name="m", version="1", dataset="d", sample_frames=(2, 2), resize=8, size=8, labels=("a",), token_dim=12
    ).model_copy(update={"familiarity": typical.info})
    tokens = onnx.helper.make_tensor_value_info("tokens", onnx.TensorProto.FLOAT, ["batch", 2, 12])
    given = onnx.helper.make_tensor_value_info("given", onnx.TensorProto.FLOAT, ["batch", 2, 12])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["given"], ["tokens"])], "g", [given], [tokens])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    add_familiarity(model, typical, metadata)
    once = model.SerializeToString(deterministic=True)
    add_familiarity(model, typical, metadata)  # replaces what is there
    assert model.SerializeToString(deterministic=True) == once
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    near = clips(400, 5) * np.linspace(0.5, 2, 400)[:, None]
    both = np.stack([near - 1, near + 1], axis=1).astype(np.float32)
    (found,) = session.run(["familiarity"], {"given": both})
    expected = typical.familiarity(both.mean(axis=1))
    assert found.shape == (400,)
    assert found == pytest.approx(expected, abs=1e-4)
    assert 0 < np.mean(expected == 0) < 1


def test_a_checkpoint_with_it_is_exported_with_the_output(tmp_path: Path) -> None:
    torch.manual_seed(0)
    info = CheckpointInfo(
        model=ModelConfig(sample_frames=(1, 1)), dataset="made up", labels=("a", "b"), temperature=1.5
    )
    model = create_model("tiny", 2, (1, 1)).eval()
    rows = clips(30, 0, model.backbone.dim)
    folder = save_checkpoint(tmp_path / "final", model, info, fit_typical(rows, rows + 0.1 * clips(30, 1, 128)))
    assert load_checkpoint(folder)[1] == info
    report = export_checkpoint(folder, tmp_path / "model.onnx")
    assert report.differences["familiarity"] < 1e-3
    served = OnnxModel(report.path, device="cpu")
    assert served.metadata.temperature == 1.5
    assert served.metadata.familiarity is not None and served.metadata.familiarity.clips == 30
    outputs = served.run(served.metadata.zeros(3))
    assert outputs.familiarity is not None and outputs.familiarity.shape == (3,)
    assert outputs.row(1).familiarity == outputs.familiarity[1]


def test_without_it_the_file_has_four_outputs(tmp_path: Path) -> None:
    info = CheckpointInfo(model=ModelConfig(sample_frames=(1, 1)), dataset="made up", labels=("a", "b"))
    folder = save_checkpoint(tmp_path / "final", create_model("tiny", 2, (1, 1)).eval(), info)
    served = OnnxModel(export_checkpoint(folder, tmp_path / "model.onnx").path, device="cpu")
    assert served.run(served.metadata.zeros(1)).familiarity is None
    assert not any("familiarity" in key or "temperature" in key for key in served.metadata.to_props())


def test_a_curve_is_read_between_its_knots(typical: Typical) -> None:
    straight = replace(
        typical,
        reference=np.zeros((1, 1), np.float32),
        distances=np.array([0, 4], np.float32),
        shares=np.array([1, 0], np.float32),
    )
    assert straight.familiarity(np.array([[0.0], [1.0], [-2.0], [9.0]])) == pytest.approx([1, 0.75, 0.5, 0])
