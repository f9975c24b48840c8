"""Choosing settings, putting runs together, and the report, from made-up predictions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from clip_sets import clip_set

from benchmarks.pose_study.clips import ALL, ClipSet
from benchmarks.pose_study.judged import judge
from benchmarks.pose_study.plan import (
    BOTH,
    METHODS,
    can_run,
    choose_settings,
    choosing_runs,
    reported_runs,
    with_parts,
)
from benchmarks.pose_study.report import difference, judge_all, write_report
from benchmarks.pose_study.results import Result, Results, Run
from sefar_training.sweep.interval import interval

RECIPES = dict.fromkeys(METHODS, "")
Right = Callable[[Run, int], float]
"""Share of the clips of a fold that a run gets right."""


def add(results: Results, clips: ClipSet, run: Run, right: Right) -> None:
    labels = clips.labels[clips.held(run.held)].copy()
    folds = clips.folds[clips.held(run.held)]
    for fold in run.held:
        for label in range(len(clips.classes)):
            rows = np.flatnonzero((folds == fold) & (labels == label))
            wrong = rows[: len(rows) - round(right(run, fold) * len(rows))]
            labels[wrong] = 2 + label  # told apart below
    answers = np.where(labels >= 2, 1 - (labels - 2), labels)
    results.add(run, Result(0.2 + 0.6 * np.eye(len(clips.classes))[answers], 2.0))


def fill(results: Results, clips: ClipSet, method: str, right: Right, draws: int = 2, fuse: bool = False) -> None:
    for run in choosing_runs(clips, method, 3, "", fuse):
        add(results, clips, run, right)
    settings = choose_settings(clips, results, method, 3, "")
    for run in reported_runs(clips, method, 3, draws, "", settings):
        add(results, clips, run, right)


@pytest.fixture
def clips() -> ClipSet:
    return clip_set(each=4, folds=5)


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return Results(tmp_path / "results.jsonl")


def test_a_setting_that_is_good_only_on_the_test_fold_is_not_chosen(clips: ClipSet, results: Results) -> None:
    def right(run: Run, fold: int) -> float:
        return {"lr=0.001": 1.0 if fold == 0 else 0.25, "lr=0.003": 0.75, "lr=0.01": 0.5}[run.setting]

    fill(results, clips, "stgcn", right)
    assert choose_settings(clips, results, "stgcn", 3, "") == dict.fromkeys(range(5), "lr=0.003")
    found = judge(clips, results, "stgcn", 3, 2, RECIPES)
    assert found is not None and found.accuracies(clips) == [75.0] * 5


def test_two_folds_left_out_serve_both_and_are_trained_once(clips: ClipSet) -> None:
    runs = list(choosing_runs(clips, "stgcn", 3, "", fuse=False))
    assert len(runs) == len(set(runs)) == 10 * 3
    assert {run.count for run in runs} == {10}
    assert {run.held for run in runs} == {(a, b) for a in range(5) for b in range(a + 1, 5)}
    assert not list(choosing_runs(clips, "pose", 3, "", fuse=False))
    assert len(list(choosing_runs(clips, "pose", 3, "", fuse=True))) == 10


def test_all_labels_have_one_draw_and_no_unlabelled_clips(clips: ClipSet) -> None:
    assert len(list(reported_runs(clips, "lr", ALL, 5, "", {}))) == 5
    assert [can_run(method, ALL) for method in ("pose", "pose-mean", "pose-sefar", "lr")] == [True, True, False, True]


def test_fusing_brings_the_runs_that_it_fuses() -> None:
    assert with_parts(["pose-mean", BOTH]) == ["pose-mean", "pose", "rgb"]
    assert with_parts(["lr"]) == ["lr"]


def test_accuracies_are_means_over_draws_and_the_interval_is_over_folds(clips: ClipSet, results: Results) -> None:
    fill(results, clips, "lr", lambda run, fold: [0.25, 0.5, 0.5, 0.75, 1.0][fold] if run.draw == 0 else 0.5)
    found = judge(clips, results, "lr", 3, 2, RECIPES)
    assert found is not None
    assert found.accuracies(clips) == [37.5, 50.0, 50.0, 62.5, 75.0]
    # Over all clips, of draw 0 (60 %) and draw 1 (50 %).
    assert found.recalls(clips).tolist() == pytest.approx([55.0, 55.0])
    assert interval(found.accuracies(clips)).half == pytest.approx(
        2.776 * np.std([37.5, 50, 50, 62.5, 75], ddof=1) / 5**0.5, rel=1e-3
    )


def test_differences_are_paired_by_fold(clips: ClipSet, results: Results) -> None:
    hard = [0.25, 0.5, 0.5, 0.75, 0.75]
    fill(results, clips, "lr", lambda run, fold: hard[fold])
    fill(results, clips, "pose", lambda run, fold: hard[fold] + 0.25)
    ours, theirs = (judge(clips, results, method, 3, 2, RECIPES) for method in ("pose", "lr"))
    assert ours is not None and theirs is not None
    assert difference(clips, ours, theirs)[:2] == (25.0, 0.0)


def test_the_weight_is_chosen_without_the_test_fold(clips: ClipSet, results: Results) -> None:
    # Frames are right where joints are not, but only on fold 0.
    fill(results, clips, "pose", lambda run, fold: 0.25 if fold == 0 else 1.0, fuse=True)
    fill(results, clips, "rgb", lambda run, fold: 1.0 if fold == 0 else 0.25)
    found = judge(clips, results, BOTH, 3, 2, RECIPES)
    assert found is not None
    assert found.settings[0] == "weight of joints 1"
    assert found.accuracies(clips)[0] == 25.0


def test_frames_that_help_everywhere_get_weight(clips: ClipSet, results: Results) -> None:
    fill(results, clips, "pose", lambda run, fold: 0.25, fuse=True)
    fill(results, clips, "rgb", lambda run, fold: 1.0)
    found = judge(clips, results, BOTH, 3, 2, RECIPES)
    assert found is not None and found.accuracies(clips) == [100.0] * 5


def test_what_is_not_finished_is_a_dash(clips: ClipSet, results: Results) -> None:
    fill(results, clips, "lr", lambda run, fold: 0.5)
    fill(results, clips, "pose", lambda run, fold: 0.75)
    table = judge_all(clips, results, ("lr", "stgcn", "pose", BOTH), (3, 5), 2, RECIPES)
    assert {key for key, found in table.items() if found is not None} == {("lr", 3), ("pose", 3)}
    text = write_report(clips, table, "pose", ["A note."])
    assert text.startswith("## Tennis\n\nA note.\n")
    assert "| logistic regression on joints | 50.0 ± 0.0 | – | 2 |" in text
    assert "| logistic regression on joints | 25.0 ± 0.0 * | – |" in text
    assert "| ST-GCN++ on joints | – | – | – |" in text
