"""One run on a user's clips: look, choose, train, export, report."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sefar_serve.atomic import WriteError
from sefar_serve.errors import SefarError
from sefar_serve.metadata import Stream
from sefar_serve.pose import Estimator
from sefar_serve.quantity import quantity

from ..start import Prepared, write_prepared
from ..start.plan import plan_lines
from ..start.write import FILES, LABELS, LISTS
from ..typical import FEWEST_HELD_OUT
from .candidates import Recipes, find_candidates
from .card import write_card
from .choose import choose
from .compare import Comparison
from .make import MEMBERS, RECIPE, TRAINING, make_model
from .report import REPORT, RunFacts, write_report
from .trial import Choice
from .words import UNMEASURED, about_no_familiarity, expected_time, unmeasured

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
        minutes: how long networks may be tried. Joints, features and the final training are not counted.
        overrides: changes of the recipe, ``key=value``.
        resume: resume the run in `out`.
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
        raise RunExistsError(f"{out} has a run; resume it with --resume, or choose another folder with --out")


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
    prepared, merged = _learning_from_all(prepared)
    for line in (*plan_lines(prepared), *merged):
        say(line)
    clips = out.absolute() / CLIPS
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        told = f"{out} cannot be created ({error.strerror}); choose another folder with --out"
        raise WriteError(told) from error
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
    if not facts.typical:
        say(about_no_familiarity(prepared, choice))
    write_card(out / CARD, prepared, choice, facts)
    write_report(out / REPORT, prepared, choice, facts)
    if unmeasured(choice):
        say(UNMEASURED)
    return Made(choice, facts, out / REPORT, out / CARD)


def _learning_from_all(prepared: Prepared) -> tuple[Prepared, list[str]]:
    """Without splits that the user made, clips of test are learned from too: cross-validation gives the figures.

    So are those of a val list that is too small. An experiment with few labels keeps both, because its other labels are
    hidden.

    Returns:
        The collection, and sentences that say what was merged and why.
    """
    splits = prepared.splits
    if splits.given or prepared.labels_per_class is not None:
        return prepared, []
    train, val, merged = [splits.train, splits.test], splits.val, []
    if len(splits.test):
        merged.append(
            f"test is merged into train ({quantity(len(splits.test), 'clip')}): cross-validation measures on all clips"
        )
    if 0 < len(val) < FEWEST_HELD_OUT:
        merged.append(
            f"val is merged into train ({quantity(len(val), 'clip')}): choosing on fewer than {FEWEST_HELD_OUT} would "
            "be chance"
        )
        train, val = [*train, val], val[:0]
    learned = np.sort(np.concatenate(train))
    return replace(prepared, splits=replace(splits, train=learned, val=val, test=splits.test[:0])), merged
