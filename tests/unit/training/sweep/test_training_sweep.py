"""The sweep engine alone, on recipes that train nothing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pydantic import BaseModel, ValidationError

from sefar_training.recipe import RecipeError, as_overrides, read_recipe
from sefar_training.sweep.interval import interval
from sefar_training.sweep.plan import Run, Sweep, by_variant, plan_runs
from sefar_training.sweep.run import SweepError, run_in_processes, run_in_turn

FIELDS: dict[str, Any] = {
    "title": "t",
    "recipe": "recipe.yaml",
    "seeds": [3, 1],
    "overrides": {"size": 2, "note": "all"},
    "variants": {"plain": {}, "large, odd": {"size": 5}},
    "focus": "plain",
}


class Toy(BaseModel):
    out: Path
    seed: int
    size: int = 1
    note: str = ""
    lists: str = ""


def load(path: Path, overrides: Sequence[str]) -> Toy:
    return read_recipe(path, Toy, overrides)


@pytest.fixture
def runs(tmp_path: Path) -> list[Run[Toy]]:
    (tmp_path / "recipe.yaml").write_text("{}\n")
    sweep = Sweep(**FIELDS | {"recipe": tmp_path / "recipe.yaml"})
    return plan_runs(sweep, tmp_path / "runs", load, ["note=mine"], lambda seed: [f"lists=of {seed}"])


def test_runs_are_planned_seed_by_seed_and_later_changes_win(runs: list[Run[Toy]], tmp_path: Path) -> None:
    assert [(run.variant, run.seed) for run in runs] == [
        ("plain", 3),
        ("large, odd", 3),
        ("plain", 1),
        ("large, odd", 1),
    ]
    assert runs[1].config == Toy(out=tmp_path / "runs/large__odd/3", seed=3, size=5, note="mine", lists="of 3")
    assert runs[2].config == Toy(out=tmp_path / "runs/plain/1", seed=1, size=2, note="mine", lists="of 1")
    assert runs[2].checkpoint == tmp_path / "runs/plain/1/final"
    assert [(name, [run.seed for run in its]) for name, its in by_variant(runs)] == [
        ("plain", [3, 1]),
        ("large, odd", [3, 1]),
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": [0, 0]}, "a seed is given twice"),
        ({"seeds": []}, "at least 1 item"),
        ({"focus": "small"}, "'small' is none of the variants plain, large, odd"),
        ({"variants": {"plain": {}, "a b": {}, "a_b": {}}}, "'a b' and 'a_b' would share a folder"),
    ],
)
def test_sweeps_that_contradict_themselves_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Sweep(**FIELDS | change)


def test_a_variant_that_does_not_fit_the_recipe_is_named(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("{}\n")
    sweep = Sweep(**FIELDS | {"recipe": tmp_path / "recipe.yaml", "variants": {"plain": {"size": "big"}}})
    with pytest.raises(RecipeError, match=r"recipe\.yaml: size: .big. is not a whole number"):
        plan_runs(sweep, tmp_path, load)


def test_overrides_keep_their_values() -> None:
    changes = {"a.b": None, "c": [1, "x: y"], "d": {"e": 1.5}, "f": "null"}
    read = {key: yaml.safe_load(text) for key, _, text in (line.partition("=") for line in as_overrides(changes))}
    assert read == changes


def done(run: Run[Toy]) -> bool:
    return run.checkpoint.exists()


def test_runs_in_turn_skip_what_is_finished_and_end_with_the_first_error(runs: list[Run[Toy]]) -> None:
    worked = []

    def work(run: Run[Toy]) -> None:
        worked.append(run)
        if run is runs[2]:
            raise RecipeError("no")
        run.checkpoint.mkdir(parents=True)

    for _ in range(2):
        with pytest.raises(RecipeError, match="no"):
            run_in_turn(runs, done, work)
    assert worked == [*runs[:3], runs[2]]


@dataclass(frozen=True)
class Shared:
    parent: int
    seed: int


def prepare(run: Run[Toy], progress: bool) -> Shared:
    return Shared(os.getpid(), run.seed)


def work_or_fail(run: Run[Toy], shared: Shared) -> None:
    print("working on", run.variant)
    if run.config.size == 5 and not (run.config.out / "fixed").exists():
        raise ValueError("too large")
    run.checkpoint.mkdir(parents=True)
    (run.checkpoint / "processes").write_text(f"{os.getpid()} {shared.parent} {shared.seed}")


def test_runs_in_processes_share_what_is_prepared_and_name_what_failed(runs: list[Run[Toy]]) -> None:
    with pytest.raises(SweepError, match=r"2 of 4 trainings failed; see .*large__odd/3/train\.log, .*/1/train\.log"):
        run_in_processes(runs, done, prepare, work_or_fail, jobs=2, progress=False)
    log = (runs[1].config.out / "train.log").read_text()
    assert "working on large, odd" in log and "ValueError: too large" in log
    found = [(runs[i].checkpoint / "processes").read_text().split() for i in (0, 2)]
    (_, parent, seed), (_, other, _) = found
    assert parent == other and seed == "3"
    assert len({os.getpid(), int(parent), *(int(own) for own, _, _ in found)}) == 4

    for run in (runs[1], runs[3]):
        (run.config.out / "fixed").touch()
    before = [runs[i].checkpoint.stat().st_mtime_ns for i in (0, 2)]
    run_in_processes(runs, done, prepare, work_or_fail, jobs=1, progress=False)
    assert all(done(run) for run in runs)
    assert (runs[1].config.out / "train.log").read_text().startswith(log)
    assert before == [runs[i].checkpoint.stat().st_mtime_ns for i in (0, 2)]


def test_intervals_by_hand() -> None:
    # t(0.975, 2) = 4.30265, and the standard error of 1, 2, 3 is 1/√3.
    found = interval([1.0, 2.0, 3.0])
    assert found.mean == 2
    assert found.half == pytest.approx(4.30265 / np.sqrt(3), abs=1e-4)
    assert str(found) == "2.0 ± 2.5"
    assert str(interval([2.341], digits=2)) == "2.34"
