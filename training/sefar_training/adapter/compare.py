"""Compare captioners: do SeFAR's features give better captions than others, as the paper claims?

A comparison is a sweep: one recipe with several encoders, or with none, and several seeds. All adapters get the same
questions, and the classifiers are evaluated next to them. The result can contradict the claim.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from pydantic import Field

from sefar_serve.atomic import atomic_file

from ..recipe import read_recipe
from ..sweep.plan import Run, Sweep, plan_runs
from ..sweep.run import run_in_turn
from .config import AdapterRecipe, load_adapter_recipe
from .evaluate import evaluate_folder
from .measures import AdapterReport
from .train import train_adapter

REPORT = "report.json"
"""A run's results, in its folder; exists once the run is trained and evaluated."""

AdapterRun = Run[AdapterRecipe]


class Comparison(Sweep):
    """A sweep over the features that an adapter reads.

    It tests the claim that `focus` is best. The classifier of `focus` also gives the hard options of all questions.

    Attributes:
        test: list of clips that no adapter was trained on; relative to the recipe's ``data.root``.
        questions: largest number of clips with questions; None for all.
    """

    test: Path
    questions: int | None = Field(default=None, ge=1)


def load_comparison(path: Path) -> Comparison:
    """Read a comparison; its recipe's path is relative to its file.

    Raises:
        RecipeError: the file is not a YAML mapping, or a key or value is wrong.
    """
    found = read_recipe(path, Comparison)
    return found.model_copy(update={"recipe": path.parent / found.recipe})


def plan_comparison(comparison: Comparison, out: Path, overrides: Sequence[str] = ()) -> list[AdapterRun]:
    """Plan the runs of a comparison. They are evaluated after training, so their model cards have no results.

    Raises:
        RecipeError: a variant does not fit the recipe.
    """
    return plan_runs(comparison, out, load_adapter_recipe, overrides, lambda seed: ["data.test=null"])


def run_comparison(
    comparison: Comparison, out: Path, overrides: Sequence[str] = (), progress: bool = True
) -> list[tuple[AdapterRun, AdapterReport]]:
    """Train and evaluate every adapter. Finished runs in `out` are skipped.

    Args:
        comparison: what to compare.
        out: folder of the runs and the page.
        overrides: further ``dotted.key=value`` changes of the recipe.
        progress: show progress bars.

    Raises:
        RecipeError, ModelLoadError, ListFileError, EvaluationError, ClipError: as `train_adapter` does.
    """
    runs = plan_comparison(comparison, out, overrides)
    referee = next(run.config.encoder for run in runs if run.variant == comparison.focus)
    run_in_turn(
        runs,
        finished=lambda run: report_file(run).is_file(),
        work=partial(_train_and_measure, comparison, referee, progress),
    )
    return [(run, AdapterReport.model_validate_json(report_file(run).read_text(encoding="utf-8"))) for run in runs]


def report_file(run: AdapterRun) -> Path:
    """Where a run's results are, once it is trained and evaluated."""
    return run.config.out / REPORT


def _train_and_measure(comparison: Comparison, referee: Path, progress: bool, run: AdapterRun) -> None:
    recipe = run.config
    if not run.checkpoint.is_dir():
        train_adapter(recipe, progress)
    report = evaluate_folder(
        run.checkpoint,
        recipe.data.root / comparison.test,
        recipe.data.root,
        recipe.encoder,
        remap=recipe.data.remap,
        referee=referee,
        blind=recipe.features == "none",
        limit=comparison.questions,
        cache=recipe.cache,
        progress=progress,
    )
    with atomic_file(report_file(run)) as new:
        new.write_text(report.model_dump_json(indent=1) + "\n", encoding="utf-8")
