"""Results on disk: one line a run, and nothing is lost or done twice after a kill."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from clip_sets import clip_set

from benchmarks.pose_study.results import Result, Results, Run

RUN = Run("stgcn", 5, (0, 3), 1, "lr=0.01", "abc")


def result(rows: int = 16) -> Result:
    return Result(np.full((rows, 2), 0.5), 1.25)


def test_a_result_survives(tmp_path: Path) -> None:
    results = Results(tmp_path / "new" / "results.jsonl")
    assert RUN not in results
    results.add(RUN, result())
    again = Results(tmp_path / "new" / "results.jsonl")
    assert again.runs() == [RUN]
    assert again[RUN].seconds == 1.25
    assert again[RUN].probabilities.tolist() == result().probabilities.tolist()


def test_a_line_that_a_kill_cut_off_is_dropped(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    Results(file).add(RUN, result())
    whole = file.read_text()
    file.write_text(whole + whole[:20])
    results = Results(file)
    other = Run("lr", 3, (1,), 0)
    results.add(other, result())
    assert Results(file).runs() == [RUN, other]


def test_a_run_with_two_folds_gives_the_predictions_of_each() -> None:
    clips = clip_set()
    clips.folds[:] = np.roll(clips.folds, 1)
    rows = np.arange(16, dtype=float)[:, None]
    found = Result(rows, 0.0)
    held = clips.held(RUN.held)
    for fold in RUN.held:
        taken = [held[int(row)] for row in found.predicted(clips, RUN, fold)[:, 0]]
        assert taken == clips.held([fold])
