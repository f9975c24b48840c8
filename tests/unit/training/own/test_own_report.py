from __future__ import annotations

import dataclasses
import json
import logging
import re
from pathlib import Path

import numpy as np
import pytest
from own_runs import choice, collection, facts

from sefar_training.checkpoint import CONFIG, CheckpointInfo
from sefar_training.config import ModelConfig
from sefar_training.data import ClassTable
from sefar_training.evaluation import score
from sefar_training.own.report import RunFacts, write_report
from sefar_training.own.thumbnails import HEIGHT, MOST, WIDTH, thumbnails
from sefar_training.own.trial import Choice
from sefar_training.start import Prepared
from sefar_training.start.findings import Finding
from sefar_training.weights import LITE0


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return collection(tmp_path_factory.mktemp("videos"))


def shown(file: Path) -> str:
    """The text of a page without its tags; white space is one space."""
    html = file.read_text(encoding="utf-8").partition("</style>")[2]
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


def test_both_figures_and_the_still_frame_come_first(tmp_path: Path, prepared: Prepared) -> None:
    found = choice(prepared)
    assert found.trial is not None and found.trial.new_places is not None
    new = found.trial.new_places
    text = shown(write_report(tmp_path / "report.html", prepared, found, facts(tmp_path)))
    told = [
        f"New places {new.accuracy:.0%} groups that it did not learn from; 95 % interval {new.low:.0%} to "
        f"{new.high:.0%}",
        "Same places 100% the rest of this folder; 95 % interval 100% to 100%",
        "A still frame alone 45%",
        "The model beats it. Chance is 50%.",
        "Joints are better in new places.",
        "logistic regression on joints (chosen)",
        "Your clips 2 classes, 11 labelled clips, 1 unlabelled clip, 3 groups (as given).",
        "turn taken for jump",
        "Calibration",
        "Hardest clips",
        "Labels worth checking",
        "sefar serve --model &#39;",
        "a run/model.onnx&#39;",
    ]
    places = [text.find(part) for part in told]
    assert -1 not in places
    assert places == sorted(places)
    assert "Learning curves" not in text
    assert "Your test list" not in text


def test_a_model_that_does_not_beat_a_still_frame_is_said_to_be_so(tmp_path: Path, prepared: Prepared) -> None:
    found = choice(prepared, wrong=(0, 1, 2, 3, 4, 5), control=(1,))
    text = shown(write_report(tmp_path / "report.html", prepared, found, facts(tmp_path)))
    assert "The model does not beat it" in text


def test_findings_are_named_and_notes_are_not(tmp_path: Path, prepared: Prepared) -> None:
    findings = (
        Finding("problem", "a", "this is bad"),
        Finding("warning", "b", "this may be bad"),
        Finding("note", "c", "this is fine"),
    )
    collected = dataclasses.replace(prepared, findings=findings)
    text = shown(write_report(tmp_path / "report.html", collected, choice(prepared), facts(tmp_path)))
    assert "Problem: this is bad. Warning: this may be bad." in text
    assert "this is fine" not in text


def test_without_trials_there_is_still_a_page(tmp_path: Path, prepared: Prepared) -> None:
    found = Choice(choice(prepared).chosen, (), None, ("There are too few labels.",))
    text = shown(write_report(tmp_path / "report.html", prepared, found, facts(tmp_path)))
    assert "How good the model is was not measured" in text
    assert "There are too few labels." in text


def test_one_group_has_no_figure_for_new_places(tmp_path: Path) -> None:
    collected = collection(tmp_path, one_group=True)
    text = shown(write_report(tmp_path / "report.html", collected, choice(collected), facts(tmp_path)))
    assert "New places – not measured" in text
    assert "In new places: not measured, because all labelled clips are of one group." in text
    assert "A still frame alone 45% in the same places" in text


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    classes = ("<script>alert(1)</script>", "$x^{\\foo$", "反手")
    collected = collection(tmp_path, classes)
    name = '"><img src=x onerror=alert(1)>'
    html = write_report(
        tmp_path / "report.html", collected, choice(collected, tuple(range(12))), facts(tmp_path, name)
    ).read_text(encoding="utf-8")
    assert "<script" not in html
    assert "<img src=x" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "反手" in html


def test_clips_that_are_gone_get_a_placeholder(
    tmp_path: Path, prepared: Prepared, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "elsewhere"
    gone = dataclasses.replace(prepared, collection=dataclasses.replace(prepared.collection, root=root))
    with caplog.at_level(logging.WARNING):
        html = write_report(tmp_path / "report.html", gone, choice(prepared), facts(tmp_path)).read_text("utf-8")
    assert "no picture of clip01.mp4" in caplog.text
    assert '<div class="none">no picture</div>' in html
    assert "image/jpeg" not in html


def test_thumbnails_are_small_and_bounded(prepared: Prepared) -> None:
    pictures = thumbnails(prepared, [3, 1, 3])
    assert set(pictures) == {1, 3}
    for picture in pictures.values():
        assert picture.dtype == np.uint8
        assert picture.shape[0] <= HEIGHT and picture.shape[1] <= WIDTH
    # The middle of clip 3: brightness 30 + 4 * 4.
    assert abs(int(pictures[3][60, 150].mean()) - 46) < 6
    many = dataclasses.replace(prepared, rows=prepared.rows * 5)
    assert len(thumbnails(many, range(len(many.rows)))) == MOST


def test_curves_and_test_list_are_shown_if_there_are_any(tmp_path: Path, prepared: Prepared) -> None:
    log = tmp_path / "run" / "log.jsonl"
    log.parent.mkdir()
    lines = [json.dumps({"epoch": n, "loss": 1 / (n + 1), "accuracy": 0.5, "top1": 0.4}) for n in range(3)]
    log.write_text("\n".join([*lines, '{"epoch": 3, "lo']), encoding="utf-8")
    labels = np.array([0, 1, 0, 1])
    test = score(np.eye(2, dtype=np.float32)[[0, 1, 0, 0]], labels, ClassTable(prepared.classes))
    run = dataclasses.replace(facts(tmp_path), test=test)
    html = write_report(tmp_path / "report.html", prepared, choice(prepared), run).read_text("utf-8")
    assert "Losses and accuracies over 3 epochs" in html
    assert "75.0%" in html.partition("Your test list")[2]


def test_facts_come_from_the_checkpoint(tmp_path: Path) -> None:
    labels = np.array([0, 1])
    test = score(np.eye(2, dtype=np.float32), labels, ClassTable(("a", "b")))
    model = ModelConfig(backbone="efficientnet-lite0")
    info = CheckpointInfo(model=model, dataset="mine", labels=("a", "b"), metrics={"test": test.model_dump()})
    (tmp_path / CONFIG).write_text(info.model_dump_json(), encoding="utf-8")
    run = RunFacts.read("mine", tmp_path, tmp_path / "model.onnx")
    assert run.test == test
    assert run.stream == "rgb"
    assert run.weights == (LITE0,)
