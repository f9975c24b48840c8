"""Late fusion: the weight, and one file from two models and a list."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from sefar_serve.cli import app
from sefar_serve.engine.onnx import OnnxModel
from sefar_serve.pose.fake import FakeEstimator
from sefar_serve.reliability import softmax
from sefar_training.checkpoint import CheckpointInfo, save_checkpoint
from sefar_training.config import ModelConfig
from sefar_training.data import ListEntry, joint_folder
from sefar_training.evaluation import EvaluationError, Views, evaluate_model
from sefar_training.export import ParityError
from sefar_training.fusion import FusionError, FusionReport, fuse, fuse_logits, try_weights
from sefar_training.fusion import run as fusion_run
from sefar_training.fusion.choice import check_lists
from sefar_training.model import Architecture, create_model


def scores(labels: np.ndarray, sure: float, seed: int, classes: int = 4) -> np.ndarray:
    """Scores that are higher for the true class by `sure`, in noise."""
    noise = np.random.default_rng(seed).normal(0, 1, (len(labels), classes))
    return noise + sure * np.eye(classes)[labels]


@given(st.integers(0, 1000), st.sampled_from([0.0, 0.3, 1.0]))
def test_fused_probabilities_are_the_weighted_geometric_mean(seed: int, weight: float) -> None:
    labels = np.arange(12) % 4
    rgb, pose = scores(labels, 1, seed), scores(labels, 2, seed + 1)
    expected = softmax(pose) ** weight * softmax(rgb) ** (1 - weight)
    expected /= expected.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(softmax(fuse_logits(rgb, pose, weight)), expected, rtol=1e-6)


def test_the_better_stream_gets_the_higher_weight() -> None:
    labels = np.arange(400) % 4
    noise, good, fair = scores(labels, 0, 0), scores(labels, 3, 1), scores(labels, 2.5, 2)
    best = {
        name: min(found, key=lambda w: found[w])
        for name, found in {
            "pose alone": try_weights(noise, good, labels),
            "rgb alone": try_weights(good, noise, labels),
            "both": try_weights(fair, good, labels),
        }.items()
    }
    assert best["pose alone"] >= 0.9 and best["rgb alone"] <= 0.1 and 0.3 < best["both"] < 0.9
    both = try_weights(fair, good, labels)
    assert both[best["both"]] < min(both[0.0], both[1.0])
    # Convex: one valley.
    assert (np.diff(list(both.values()), 2) > -1e-12).all()


def test_streams_that_say_the_same_leave_the_frames_the_whole_weight() -> None:
    labels = np.arange(8) % 4
    same = np.zeros((8, 4))
    found = try_weights(same, same, labels)
    assert min(found, key=lambda w: found[w]) == 0


@pytest.fixture(scope="module")
def fused(untrained_model: Path, untrained_pose: Path, paired_clips: Path, tmp_path_factory) -> FusionReport:
    return fuse(
        untrained_model,
        untrained_pose,
        tmp_path_factory.mktemp("fused") / "new" / "both.onnx",
        paired_clips / "val.csv",
        paired_clips,
        test=paired_clips / "test.csv",
        estimator=FakeEstimator(),
        progress=False,
    )


def test_the_file_says_what_it_sees_and_gives_what_the_two_models_give(
    fused: FusionReport, untrained_model: Path, untrained_pose: Path
) -> None:
    assert max(fused.differences.values()) < 1e-3
    both, rgb, pose = (OnnxModel(file, device="cpu") for file in (fused.model, untrained_model, untrained_pose))
    about = both.metadata
    assert (about.name, about.stream, about.pose_weight) == ("sefar-none-both", "both", fused.pose_weight)
    assert (about.size, about.persons, about.estimator) == (64, 1, FakeEstimator.name)
    rng = np.random.default_rng(0)
    inputs = {"frames": rng.integers(0, 255, (3, 8, 64, 64, 3), np.uint8), "poses": rng.random((3, 8, 1, 15, 4), "f4")}
    out = both.run(inputs)
    of_rgb, of_pose = (model.run({name: inputs[name] for name in model.metadata.inputs}) for model in (rgb, pose))
    np.testing.assert_allclose(out.embedding, np.concatenate([of_rgb.embedding, of_pose.embedding], -1), atol=1e-5)
    np.testing.assert_allclose(out.tokens, np.concatenate([of_rgb.tokens, of_pose.tokens], -1), atol=1e-4)
    w = fused.pose_weight
    for name in ("logits", "mc_logits"):
        expected = fuse_logits(getattr(of_rgb, name), getattr(of_pose, name), w)
        np.testing.assert_allclose(getattr(out, name), expected, atol=1e-5)


def test_figures_are_those_of_evaluation(
    fused: FusionReport, untrained_model: Path, untrained_pose: Path, paired_clips: Path
) -> None:
    for file, found in (("val.csv", fused.val), ("test.csv", fused.test)):
        assert found is not None
        for model, figures in ((fused.model, found.both), (untrained_model, found.rgb), (untrained_pose, found.pose)):
            report = evaluate_model(
                Path(model), paired_clips / file, paired_clips, progress=False, estimator=FakeEstimator()
            )
            assert (report.top1, report.mean_class) == (figures.accuracy, figures.balanced_accuracy)
            assert report.clips == found.clips
    assert fused.val.both.nll == pytest.approx(min(fused.nll_by_weight.values()))
    assert fused.nll_by_weight["0"] == pytest.approx(fused.val.rgb.nll)
    assert fused.nll_by_weight["1"] == pytest.approx(fused.val.pose.nll)


def test_both_are_evaluated_with_several_views_over_time_but_not_in_space(
    fused: FusionReport, paired_clips: Path
) -> None:
    model, test = Path(fused.model), paired_clips / "test.csv"
    report = evaluate_model(model, test, paired_clips, progress=False, views=Views(2), estimator=FakeEstimator())
    assert (report.clips, report.temporal_views) == (4, 2)
    with pytest.raises(EvaluationError, match="not cropped; set --spatial-crops to 1"):
        evaluate_model(model, test, paired_clips, views=Views(1, 3), estimator=FakeEstimator())
    other = FakeEstimator()
    other.sha256 = "1" * 64
    with pytest.raises(EvaluationError, match="was trained with the pose estimator fake"):
        evaluate_model(model, test, paired_clips, estimator=other)


def test_spans_of_one_file_may_be_chosen_on_unless_they_overlap() -> None:
    def entry(start: float | None, end: float | None) -> ListEntry:
        return ListEntry("a.mp4", Path("a.mp4"), 0, start, end)

    val, test = Path("val.csv"), Path("test.csv")
    chosen = [entry(None, 1.0), entry(2.0, None)]
    check_lists({val: chosen, test: [entry(1.0, 2.0)]}, val, test, [])
    for shared, count in ((entry(1.5, 2.5), 1), (entry(0.0, 0.5), 1), (entry(None, None), 2)):
        with pytest.raises(FusionError, match=rf"--test test\.csv share {count} clips, e\.g\. a\.mp4"):
            check_lists({val: chosen, test: [shared]}, val, test, [])


def test_clips_that_would_flatter_the_choice_are_refused(
    untrained_model: Path, untrained_pose: Path, paired_clips: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    val, out = paired_clips / "val.csv", tmp_path / "both.onnx"

    def run(rgb: Path, **lists: Path) -> FusionReport:
        return fuse(rgb, untrained_pose, out, val, paired_clips, estimator=FakeEstimator(), progress=False, **lists)

    with pytest.raises(FusionError, match=r"--val .*val\.csv and --test .*val\.csv share 8 clips.* or omit it"):
        run(untrained_model, test=val)
    (tmp_path / "more.csv").write_text("test0.mp4 0\n./val3.mp4 1\n")
    with pytest.raises(FusionError, match=r"share 1 clips, e\.g\. val3\.mp4"):
        run(untrained_model, test=tmp_path / "more.csv")

    data = {"root": str(paired_clips), "train": str(tmp_path / "more.csv")}
    config = ModelConfig(architecture=Architecture(patch=16, dim=24, depth=1, heads=3), size=32, resize=32)
    model = create_model("tiny", 4, size=32, architecture=config.architecture)
    info = CheckpointInfo(model=config, dataset="none", labels=("a", "b", "c", "d"), recipe={"data": data})
    checkpoint = save_checkpoint(tmp_path / "final", model, info)
    with pytest.raises(FusionError, match=r"the training list of .*final share 1 clips.* neither model was trained on"):
        run(checkpoint)
    assert not out.exists()
    (tmp_path / "more.csv").unlink()
    assert run(checkpoint).val.clips == 8
    assert "the training list of" in caplog.text


def test_nothing_is_written_if_the_file_disagrees(
    untrained_model: Path, untrained_pose: Path, paired_clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def disagree(*_: object) -> None:
        raise ParityError("logits differs by 1.0")

    monkeypatch.setattr(fusion_run, "check_parity", disagree)
    val = paired_clips / "val.csv"
    with pytest.raises(ParityError):
        fuse(
            untrained_model,
            untrained_pose,
            tmp_path / "new" / "both.onnx",
            val,
            paired_clips,
            estimator=FakeEstimator(),
            progress=False,
        )
    assert not list(tmp_path.iterdir())


def test_the_command_prints_a_table_and_writes_a_report(
    untrained_model: Path,
    untrained_pose: Path,
    paired_clips: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(joint_folder, "make_estimator", FakeEstimator)
    arguments = ["fuse", untrained_model, untrained_pose, "--val", paired_clips / "val.csv", "--root", paired_clips]
    options = ["--out", tmp_path / "b.onnx", "--report", tmp_path / "r" / "b.json", "--name", "mine", "--version", "3"]
    done = CliRunner().invoke(app, list(map(str, [*arguments, *options])), terminal_width=120)
    assert done.exit_code == 0, done.output
    assert "validation, 8 clips" in done.output and "chosen on the validation list" in done.output
    written = json.loads((tmp_path / "r" / "b.json").read_text())
    about = OnnxModel(tmp_path / "b.onnx", device="cpu").metadata
    assert (about.name, about.version, about.pose_weight) == ("mine", "3", written["pose_weight"])
    assert written["test"] is None
