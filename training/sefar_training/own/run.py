"""One run on a user's clips: look, choose, train, export, report."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sefar_serve.errors import SefarError
from sefar_serve.metadata import Stream
from sefar_serve.pose import Estimator

from ..start import Prepared, write_prepared
from ..start.write import FILES, LABELS, LISTS
from .candidates import Recipes, find_candidates
from .card import write_card
from .choose import choose
from .compare import Comparison
from .make import MEMBERS, RECIPE, TRAINING, make_model
from .report import REPORT, RunFacts, write_report
from .trial import Choice
from .words import expected_time

MODEL = "model.onnx"
CARD = "MODEL_CARD.md"
CLIPS = "clips"
TRIALS = "trials"
MADE = (RECIPE, *(f"recipe_{kind}.yaml" for kind in MEMBERS), MODEL, TRIALS, TRAINING)
"""What says that a folder has a run."""


class RunExistsError(SefarError, FileExistsError):
    """The folder has a run, of these clips or of others."""


@dataclass(frozen=True)
class Options:
    """What a user may say about a run.

    Attributes:
        out: folder of the run; its name is the model's.
        stream: try only what sees this; None for any.
        minutes: about how long networks may be tried; joints and features are found however long that takes.
        overrides: changes of the recipe, ``key=value``.
        resume: go on with the run in `out`.
    """

    out: Path
    stream: Stream | None = None
    minutes: float = 20.0
    overrides: tuple[str, ...] = ()
    resume: bool = False


@dataclass(frozen=True)
class Made:
    """What a run made.

    Attributes:
        choice: what was chosen, and why.
        facts: what the run left.
        report: the page.
        card: the model card.
    """

    choice: Choice
    facts: RunFacts
    report: Path
    card: Path


def check_run(out: Path, resume: bool) -> None:
    """Check that a run can be written to a folder.

    Raises:
        RunExistsError: it has a run and `resume` is off, or it is a file.
    """
    if out.is_file():
        raise RunExistsError(f"{out} is a file; choose a folder with --out")
    if not resume and out.is_dir() and any((out / name).exists() for name in MADE):
        raise RunExistsError(f"{out} has a run; go on with --resume, or choose another folder with --out")


def run_own(
    prepared: Prepared,
    options: Options,
    say: Callable[[str], None],
    estimator: Estimator | None = None,
    progress: bool = True,
) -> Made:
    """Make a model from a prepared collection.

    Args:
        prepared: the collection; it must be trainable.
        options: of the run.
        say: told results as they come.
        estimator: finds joints; None for MediaPipe's.
        progress: show progress bars.

    Raises:
        RunExistsError: see `check_run`.
        NothingToTryError: no candidate can be tried.
        RecipeError: an override is wrong.
    """
    started = time.monotonic()
    out = options.out
    check_run(out, options.resume)
    prepared = _learning_from_all(prepared)
    clips = out.absolute() / CLIPS
    out.mkdir(parents=True, exist_ok=True)
    write_prepared(prepared, clips)
    recipes = Recipes(prepared, clips / LABELS, out.absolute().name, options.overrides)
    candidates, reasons = find_candidates(prepared, options.stream)
    say(expected_time(prepared, candidates, options.minutes))
    comparison = Comparison(prepared, recipes, out / TRIALS, estimator, progress)
    choice = choose(comparison, candidates, reasons, say, options.minutes)
    for reason in choice.reasons:
        say(reason)
    lists = {split: clips / LISTS / file for split, file in FILES.items() if (clips / LISTS / file).is_file()}
    made = make_model(choice.chosen, comparison, lists, out, out / MODEL, say, options.resume)
    facts = replace(made, seconds=time.monotonic() - started)
    write_card(out / CARD, prepared, choice, facts)
    write_report(out / REPORT, prepared, choice, facts)
    return Made(choice, facts, out / REPORT, out / CARD)


def _learning_from_all(prepared: Prepared) -> Prepared:
    """Without a test split that the user made, its clips are learned from too: cross-validation gives the figures.

    An experiment with few labels keeps it, because its other labels are hidden.
    """
    splits = prepared.splits
    if splits.given or prepared.labels_per_class is not None:
        return prepared
    train = np.sort(np.concatenate([splits.train, splits.test]))
    return replace(prepared, splits=replace(splits, train=train, test=splits.test[:0]))
