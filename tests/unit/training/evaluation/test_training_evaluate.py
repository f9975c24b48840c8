from __future__ import annotations

import io
import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_videos import encode
from typer.testing import CliRunner

from sefar_serve.cli import app, main
from sefar_serve.clip import load_clip
from sefar_serve.engine import ModelLoadError
from sefar_serve.lists import ListEntry
from sefar_serve.reliability import reliabilities, softmax
from sefar_serve.sampling import Sampling, sample_indices
from sefar_training.checkpoint import CheckpointError, CheckpointInfo, save_checkpoint
from sefar_training.config import ModelConfig
from sefar_training.data import ClassTable, EvaluationClips, ListFileError, MissingClipsError
from sefar_training.evaluation import (
    EvaluationError,
    EvaluationReport,
    MultiViewClips,
    Scores,
    Views,
    evaluate_clips,
    evaluate_model,
    open_model,
    score,
)
from sefar_training.evaluation.measures import auroc, calibration_bins, calibration_error, wilson_interval
from sefar_training.evaluation.plots import class_bars, confusion_image, drawn_names
from sefar_training.evaluation.report import report_page, write_report
from sefar_training.evaluation.views import average_views, squares
from sefar_training.model import create_model

CLASSES = ClassTable(
    labels=("roll forward", "roll backward", "leap", "turn", "jump", "kick"),
    attributes=(
        {"direction": "forward", "event": "FX"},
        {"direction": "backward", "event": "FX"},
        {"event": "FX"},
        {"event": "BB"},
        {"event": "BB"},
        {"event": "BB"},
    ),
    opposites=(1, 0, None, None, None, None),
)


def test_every_figure_by_hand() -> None:
    logits = np.array(
        [
            [3, 2, 0, 0, 0, 0],  # forward, right
            [1, 2, 0, 0, 0, 5],  # forward, taken for a kick; its opposite above it
            [2, 3, 0, 0, 0, 9],  # backward, taken for a kick; above its opposite
            [0, 0, 9, 1, 1, 1],  # leap, right
            [9, 8, 7, 0, 6, 5],  # turn, sixth of six
        ],
        np.float32,
    )
    report = score(logits, np.array([0, 0, 1, 2, 3]), CLASSES)
    assert report.clips == 5
    assert report.top1 == pytest.approx(2 / 5)
    assert report.top5 == pytest.approx(4 / 5)
    assert report.mean_class == pytest.approx((0.5 + 0 + 1 + 0) / 4)
    assert report.opposite_pairs == pytest.approx(2 / 3)
    assert report.opposite_clips == 3
    assert report.attributes == {"direction": pytest.approx(1 / 3), "event": pytest.approx(2 / 5)}
    assert report.per_class == {"roll forward": 0.5, "roll backward": 0, "leap": 1, "turn": 0}
    assert report.opposite_confusion == 0
    assert report.labels == list(CLASSES.labels)
    assert report.confusion == [
        [1, 0, 0, 0, 0, 1],
        [0, 0, 0, 0, 0, 1],
        [0, 0, 1, 0, 0, 0],
        [1, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
    ]
    assert [(pair.true, pair.predicted, pair.clips, pair.share) for pair in report.confused_pairs] == [
        ("roll backward", "kick", 1, 1.0),
        ("turn", "roll forward", 1, 1.0),
        ("roll forward", "kick", 1, 0.5),
    ]
    assert report.eta is None
    assert (report.temporal_views, report.spatial_crops) == (1, 1)
    assert EvaluationReport.model_validate_json(report.model_dump_json()) == report


def test_predicted_opposites_are_counted_and_marked() -> None:
    logits = np.eye(6, dtype=np.float32)[[1, 1, 0, 2, 1]]
    report = score(logits, np.array([0, 0, 0, 1, 3]), CLASSES)
    assert report.opposite_clips == 4
    assert report.opposite_confusion == pytest.approx(2 / 4)
    assert [(pair.true, pair.predicted, pair.clips, pair.opposite) for pair in report.confused_pairs] == [
        ("roll forward", "roll backward", 2, True),
        ("roll backward", "leap", 1, False),
        ("turn", "roll backward", 1, False),
    ]


def test_calibration_by_hand() -> None:
    confidence, right = np.array([0.95, 0.97, 0.5, 0.19]), np.array([True, False, True, False])
    bins = calibration_bins(confidence, right)
    assert bins.clips.tolist() == [0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 2]
    assert bins.confidence[14] == pytest.approx(0.96)
    assert bins.accuracy[[2, 7, 14]].tolist() == [0, 1, 0.5]
    assert np.isnan(bins.confidence[0])
    assert calibration_error(bins) == pytest.approx((0.19 + 0.5 + 2 * 0.46) / 4)


def test_bin_edges_belong_to_the_lower_bin() -> None:
    bins = calibration_bins(np.array([0.0, 0.5, 0.51, 1.0]), np.ones(4, np.bool_), bins=2)
    assert bins.clips.tolist() == [2, 2]


def test_calibration_is_of_the_most_probable_class() -> None:
    logits = np.log(np.array([[0.7, 0.2, 0.1], [0.7, 0.2, 0.1]], np.float32))
    report = score(logits, np.array([0, 1]), ClassTable(("a", "b", "c")))
    assert report.ece == pytest.approx(0.2)
    (some,) = [found for found in report.calibration if found.clips]
    assert (some.clips, some.accuracy) == (2, 0.5)
    assert some.confidence == pytest.approx(0.7)
    assert some.low < 0.7 <= some.high
    assert len(report.calibration) == 15
    assert report.calibration[0].confidence is None


def test_auroc_by_hand() -> None:
    assert auroc(np.array([3.0, 1, 2, 2]), np.array([True, False, True, False])) == pytest.approx(3.5 / 4)
    assert auroc(np.array([0.1, 0.9]), np.array([True, False])) == 0
    assert auroc(np.ones(5), np.array([True, False, True, True, False])) == 0.5
    assert auroc(np.arange(3.0), np.ones(3, np.bool_)) is None
    assert auroc(np.arange(3.0), np.zeros(3, np.bool_)) is None


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=30))
def test_auroc_is_the_share_of_pairs_in_order(answers: list[tuple[int, bool]]) -> None:
    signal, right = np.array([float(s) for s, _ in answers]), np.array([r for _, r in answers])
    pairs = [(a > b) + 0.5 * (a == b) for a in signal[right] for b in signal[~right]]
    found = auroc(signal, right)
    assert found is None if not pairs else found == pytest.approx(np.mean(pairs))


def test_interval_by_hand() -> None:
    # Brown, Cai and DasGupta's formula with z = 2: (8 + 2) / 14 ± 2 * sqrt(0.16 / 10 + 0.01) * 10 / 14.
    low, high = wilson_interval(8, 10, z=2)
    half = 2 * math.sqrt(0.16 / 10 + 0.01) * 10 / 14
    assert (low, high) == (pytest.approx(10 / 14 - half), pytest.approx(10 / 14 + half))
    report = score(np.eye(3, dtype=np.float32)[[0, 1, 2, 0]], np.array([0, 1, 2, 1]), ClassTable(("a", "b", "c")))
    assert (report.top1_low, report.top1_high) == (pytest.approx(0.3006, abs=1e-4), pytest.approx(0.9544, abs=1e-4))


@given(st.integers(1, 10**6), st.floats(0, 1))
def test_interval_holds_the_share(count: int, part: float) -> None:
    successes = round(part * count)
    low, high = wilson_interval(successes, count)
    assert 0 <= low <= successes / count <= high <= 1


def test_eta_by_hand() -> None:
    sure, wavering = [[0.9, 0.1], [0.9, 0.1]], [[0.9, 0.1], [0.5, 0.5]]
    mc_logits = np.log(np.array([sure, wavering, wavering, sure], np.float32))
    logits = np.log(np.array([[0.8, 0.2], [0.6, 0.4], [0.7, 0.3], [0.7, 0.3]], np.float32))
    report = score(logits, np.array([0, 0, 1, 0]), ClassTable(("a", "b")), mc_logits)
    found = report.eta
    assert found is not None
    high, low = (1 / (1 + math.exp(math.e - math.exp(m))) * 2 for m in (0.9, 0.7))
    low *= 2 / (1 + math.exp(-1 / (20 * 0.2))) - 1
    assert found.mean_right == pytest.approx((high + low + high) / 3, rel=1e-4)
    assert found.mean_wrong == pytest.approx(low, rel=1e-4)
    assert found.auroc == pytest.approx((1 + 0.5 + 1) / 3)
    assert found.auroc_probability == pytest.approx((1 + 0 + 0.5) / 3)
    assert sum(found.right) == 3
    assert found.wrong[int(low * 20)] == 1


def test_eta_has_no_auroc_if_all_answers_are_right() -> None:
    logits = np.eye(3, dtype=np.float32)
    found = score(logits, np.arange(3), ClassTable(("a", "b", "c")), logits[:, None].repeat(4, axis=1)).eta
    assert found is not None
    assert (found.auroc, found.auroc_probability, found.mean_wrong) == (None, None, None)
    assert found.mean_right is not None


def test_scores_that_are_not_finite_are_refused() -> None:
    with pytest.raises(EvaluationError, match="not all finite"):
        score(np.full((1, 6), np.nan, np.float32), np.array([0]), CLASSES)


def test_equal_scores_do_not_count_as_the_right_direction() -> None:
    logits = np.zeros((1, 6), np.float32)
    assert score(logits, np.array([0]), CLASSES).opposite_pairs == 0


def test_without_opposites_there_is_no_pair_accuracy() -> None:
    report = score(np.eye(3, dtype=np.float32), np.arange(3), ClassTable(("a", "b", "c")))
    assert report.top1 == 1
    assert report.opposite_pairs is None
    assert report.attributes == {}


def test_unknown_labels_and_empty_lists_are_named() -> None:
    with pytest.raises(EvaluationError, match="label 6, but the model's 6 classes are 0 to 5"):
        score(np.zeros((1, 6), np.float32), np.array([6]), CLASSES)
    with pytest.raises(EvaluationError, match="no clips"):
        score(np.zeros((0, 6), np.float32), np.array([], np.int64), CLASSES)


def test_squares_lie_along_the_longer_side() -> None:
    wide = np.arange(3 * 7).reshape(1, 3, 7, 1).repeat(3, axis=3).astype(np.uint8)
    assert [square[0, 0, 0, 0] for square in squares(wide, 3, 3)] == [0, 2, 4]
    tall = wide.swapaxes(1, 2)
    assert [square[0, 0, 0, 0] for square in squares(tall, 3, 3)] == [0, 2, 4]
    # Across the shorter side they are central, as the one square of serving.
    assert [square[0, 0, 0, 0] for square in squares(wide, 1, 3)] == [7, 7 + 3, 7 + 6]
    assert [square[0, 0, 0, 0] for square in squares(wide, 3, 1)] == [2]


@pytest.mark.parametrize(("temporal", "spatial"), [(0, 1), (1, 2), (1, 0)])
def test_impossible_views_are_refused(temporal: int, spatial: int) -> None:
    with pytest.raises(ValueError, match=r"views|crops"):
        Views(temporal, spatial)


def test_views_are_averaged_as_probabilities() -> None:
    logits = np.array([[[5, 0, 1], [0, 2, 800]], [[1, 1, 1], [2, 0, -3]]], np.float32)
    assert softmax(average_views(logits)) == pytest.approx(softmax(logits).mean(axis=1), abs=1e-6)
    assert np.isfinite(average_views(logits)).all()
    assert (average_views(logits[:, :1]) == logits[:, 0]).all()
    samples = np.random.default_rng(0).normal(0, 3, (4, 6, 10, 3)).astype(np.float32)
    assert softmax(average_views(samples)) == pytest.approx(softmax(samples).mean(axis=1), abs=1e-6)


SAMPLING = Sampling((2, 2, 4))


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> list[ListEntry]:
    folder = tmp_path_factory.mktemp("videos")
    return [ListEntry(f"{i}.mp4", encode(folder / f"{i}.mp4", brightness=15 * i), i) for i in range(6)]


def test_views_of_a_clip(entries: list[ListEntry]) -> None:
    frames = MultiViewClips(entries, SAMPLING, 48, 40, Views(3, 3))[2]["inputs"].numpy()
    assert frames.shape == (9, 8, 40, 40, 3)
    served = load_clip(entries[2].path, SAMPLING, resize=48, size=40).frames
    assert (frames[4] == served).all()  # the middle view's central square
    level = frames.astype(float).mean(axis=(2, 3, 4)).reshape(3, 3, 8)
    assert (np.diff(level.mean(axis=1), axis=0) > 0).all()  # later views are later, in every segment
    assert (np.diff(level, axis=1) < 0).all()  # the left half is the brighter one
    for k in range(3):
        chosen = sample_indices(24, SAMPLING, view=(k, 3))
        assert level[k, 1] == pytest.approx(4 * chosen + 30 + 20, abs=3)


def by_brightness(frames: np.ndarray) -> Scores:
    """A model that knows the mean brightness of a clip, and of the first element's frames."""
    levels = frames.reshape(*frames.shape[:2], -1).astype(np.float32).mean(axis=2)
    known = 60 + 15 * np.arange(6, dtype=np.float32)
    logits = -((levels.mean(axis=1, keepdims=True) - known) ** 2) / 50
    mc_logits = -((levels[:, :2, None] - known) ** 2) / 50
    return Scores(logits, mc_logits, logits)


@pytest.mark.parametrize("views", [Views(), Views(2, 3)])
def test_batches_and_threads_change_nothing(entries: list[ListEntry], views: Views) -> None:
    clips = MultiViewClips(entries, SAMPLING, 48, 40, views)
    reports = [
        evaluate_clips(by_brightness, clips, CLASSES, batch, workers) for batch, workers in [(32, 0), (4, 2), (1, 3)]
    ]
    assert reports[0] == reports[1] == reports[2]
    assert reports[0].clips == 6
    assert (reports[0].temporal_views, reports[0].spatial_crops) == (views.temporal, views.spatial)


def test_many_views_are_the_mean_of_each_alone(entries: list[ListEntry]) -> None:
    frames = np.stack([MultiViewClips(entries, SAMPLING, 48, 40, Views(2))[i]["inputs"].numpy() for i in range(6)])
    alone = [by_brightness(frames[:, k]) for k in range(2)]
    probabilities = np.mean([softmax(found.logits) for found in alone], axis=0)
    mc_logits = np.log(np.mean([softmax(found.mc_logits) for found in alone], axis=0))
    report = evaluate_clips(by_brightness, MultiViewClips(entries, SAMPLING, 48, 40, Views(2)), CLASSES)
    right = probabilities.argmax(axis=1) == np.arange(6)
    assert report.top1 == right.mean()
    assert report.ece == pytest.approx(calibration_error(calibration_bins(probabilities.max(axis=1), right)), abs=1e-5)
    assert report.eta is not None
    if right.any():
        assert report.eta.mean_right == pytest.approx(reliabilities(mc_logits)[right].mean(), abs=1e-5)


def test_one_view_is_what_is_served(entries: list[ListEntry]) -> None:
    one = evaluate_clips(by_brightness, MultiViewClips(entries, SAMPLING, 48, 40, Views()), CLASSES)
    assert one == evaluate_clips(by_brightness, EvaluationClips(entries, SAMPLING, 48, 40), CLASSES)


@dataclass(frozen=True)
class Case:
    """A checkpoint, the same exported, and a list it can be evaluated on."""

    checkpoint: Path
    onnx: Path
    list_file: Path
    root: Path


@pytest.fixture(scope="module")
def case(entries: list[ListEntry], untrained_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("case")
    torch.manual_seed(0)  # the weights of `export_untrained`
    info = CheckpointInfo(
        model=ModelConfig(),
        dataset="none",
        labels=("a", "b", "c", "d"),
        attributes=({"direction": "forward"}, {"direction": "backward"}, {}, {}),
        opposites=(1, 0, None, None),
    )
    save_checkpoint(folder / "final", create_model("tiny", 4), info)
    for name, prefix in (("here.csv", ""), ("elsewhere.csv", "/elsewhere/")):
        (folder / name).write_text("".join(f"{prefix}{entry.name} {entry.label % 4}\n" for entry in entries))
    return Case(folder / "final", untrained_model, folder / "here.csv", entries[0].path.parent)


def test_checkpoint_and_exported_file_agree(case: Case) -> None:
    torch_model, onnx_model = open_model(case.checkpoint, "cpu"), open_model(case.onnx, "cpu")
    assert torch_model.classes.labels == onnx_model.classes.labels
    frames = np.random.default_rng(0).integers(0, 256, (3, 8, 64, 64, 3), np.uint8)
    for ours, theirs in zip(torch_model.predict(frames), onnx_model.predict(frames), strict=True):
        assert ours == pytest.approx(theirs, abs=1e-4)
    a, b = (
        evaluate_model(model, case.list_file, case.root, progress=False, device="cpu")
        for model in (case.checkpoint, case.onnx)
    )
    assert a.confusion == b.confusion
    assert a.ece == pytest.approx(b.ece, abs=1e-4)
    assert a.eta is not None and b.eta is not None
    for name in ("auroc", "auroc_probability", "mean_right", "mean_wrong"):
        assert getattr(a.eta, name) == pytest.approx(getattr(b.eta, name), abs=1e-3)


def test_invalid_evaluations_are_refused_at_once(case: Case, tmp_path: Path) -> None:
    def run(model: Path, content: str = "0.mp4 0\n") -> None:
        (tmp_path / "list.csv").write_text(content)
        evaluate_model(model, tmp_path / "list.csv", case.root, progress=False)

    with pytest.raises(EvaluationError, match="label 4, but the model's 4 classes are 0 to 3"):
        run(case.onnx, "0.mp4 0\n1.mp4 4\n")
    with pytest.raises(MissingClipsError, match=r"2 of 3 clips of .*list.csv do not exist: a\.mp4, b\.mp4; the first"):
        run(case.onnx, "a.mp4 0\n0.mp4 0\nb.mp4 1\n")
    with pytest.raises(ListFileError, match="lists no clips"):
        run(case.onnx, "")
    with pytest.raises(EvaluationError, match=r"nothing does not exist; give a checkpoint folder"):
        run(tmp_path / "nothing")
    with pytest.raises(EvaluationError, match=r"neither a checkpoint folder nor an \.onnx file"):
        run(case.list_file)
    with pytest.raises(CheckpointError, match=r"it has no config\.json"):
        run(case.root)
    broken = tmp_path / "broken.onnx"
    broken.write_text("no model")
    with pytest.raises(ModelLoadError, match="cannot be loaded as an ONNX model"):
        run(broken)
    with pytest.raises(FileNotFoundError, match=r"none\.csv"):
        evaluate_model(case.onnx, tmp_path / "none.csv", case.root)


def test_command_writes_both_reports_and_prints_json(case: Case, tmp_path: Path) -> None:
    remapped = case.list_file.with_name("elsewhere.csv")
    where = [str(case.checkpoint), str(remapped), "--root", str(case.root), "--remap", "/elsewhere/="]
    views = ["--temporal-views", "2", "--spatial-crops", "3"]
    folder = tmp_path / "new" / "report"
    done = CliRunner().invoke(app, ["evaluate", *where, *views, "--device", "cpu", "--out", str(folder), "--json"])
    assert done.exit_code == 0, done.output
    printed = json.loads(done.stdout)
    assert (printed["model"], printed["list"]) == (str(case.checkpoint), str(remapped))
    assert (printed["clips"], printed["temporal_views"], printed["spatial_crops"]) == (6, 2, 3)
    assert sorted(file.name for file in folder.iterdir()) == ["report.html", "report.json"]
    written = (folder / "report.json").read_text(encoding="utf-8")
    assert json.loads(written) == printed
    assert EvaluationReport.model_validate_json(written).top1 == printed["top1"]
    page = (folder / "report.html").read_text(encoding="utf-8")
    for expected in ("Evaluation", str(case.checkpoint), "2 temporal views × 3 spatial crops", "direction", "ECE"):
        assert expected in page
    assert page.count("<img ") == 5


def test_command_prints_tables(case: Case) -> None:
    done = CliRunner().invoke(
        app, ["evaluate", str(case.checkpoint), str(case.list_file), "--root", str(case.root), "--device", "cpu"]
    )
    assert done.exit_code == 0, done.output
    for expected in ("one central view each, as in serving", "top-1", "calibration error", "direction", "predicted"):
        assert expected in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--remap", "=x"], "OLD=NEW"), (["--spatial-crops", "2"], "1 or 3"), (["--root", "/none"], "6 of 6 clips")],
)
def test_command_reports_mistakes_in_one_line(
    case: Case, arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["sefar", "evaluate", str(case.onnx), str(case.list_file), *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code
    assert message in capsys.readouterr().err


def test_page_of_a_perfect_model_without_opposites() -> None:
    report = score(np.eye(3, dtype=np.float32), np.arange(3), ClassTable(("a", "b", "c")))
    html = report_page(report, "m.onnx", "val.csv").html()
    assert "Every clip was classified correctly" in html
    assert "opposite" not in html
    assert html.count("<img ") == 3


def test_page_tells_how_well_eta_tells_right_from_wrong() -> None:
    mc_logits = np.log(np.array([[[0.9, 0.1]] * 2, [[0.6, 0.4]] * 2, [[0.7, 0.3]] * 2], np.float32))
    report = score(mc_logits[:, 0], np.array([0, 1, 1]), ClassTable(("a", "b"), (), (1, 0)), mc_logits)
    html = report_page(report, "m", "l").html()
    assert '<td>AUROC of η</td><td class="n">1.000</td>' in html
    assert "in 100.0% of pairs. That is as well as the top-1 probability, 100.0%" in html
    assert '<td class="n">100%</td><td>⇄</td>' in html


def test_page_of_very_many_classes_stays_small(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 288, 2000)
    logits = rng.normal(size=(2000, 288)).astype(np.float32)
    logits[np.arange(2000), labels] += 3
    report = score(logits, labels, ClassTable(tuple(f"class {i}" for i in range(288))))
    json_file, html_file = write_report(report, tmp_path, "m", "l")
    assert html_file.stat().st_size < 1_000_000
    assert len(json.loads(json_file.read_text())["confusion"]) == 288
    assert len(report.confused_pairs) == 20


def test_plots_show_any_name() -> None:
    labels = ["a$b$", "$x^{\\foo$", "反手", "two\nlines", "n" * 41, "été"]
    names = drawn_names(labels)
    assert names == [r"a\$b\$", r"\$x^{\foo\$", "class 2", "two lines", "n" * 39 + "…", "été"]
    report = score(np.eye(6, dtype=np.float32), np.array([0, 1, 2, 3, 4, 4]), ClassTable(tuple(labels)))
    for fig in (confusion_image(report), class_bars(report)):
        fig.savefig(io.BytesIO(), format="svg")


def test_cells_of_small_matrices_have_numbers() -> None:
    report = score(np.eye(2, dtype=np.float32)[[0, 0, 1]], np.array([0, 1, 1]), ClassTable(("a", "b")))
    (axes, _) = confusion_image(report).axes
    assert {t.get_position(): t.get_text() for t in axes.texts} == {(0, 0): "1", (0, 1): "1", (1, 1): "1"}
