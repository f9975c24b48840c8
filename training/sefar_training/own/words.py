"""The figures of a choice in words, for the report and the model card."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sefar_serve.cores import available_cores
from sefar_serve.lists import UNKNOWN
from sefar_serve.quantity import quantity

from ..start import Prepared
from ..start.findings import plural, some
from ..typical import FEWEST_HELD_OUT
from .answers import Answers
from .trial import Candidate, Choice, Judged

FEW = 10
"""Fewer wrong answers make a rough figure."""

SECONDS_PER_CLIP = 0.7
"""About how long one core takes to find the joints of a clip, and to describe its frames; measured on clips of 2 s."""

UNMEASURED = (
    "Nobody knows whether this model works: no answer could be checked, because no class has two clips to spare. Label "
    "at least three clips of each class, of two places or more."
)


def interval(judged: Judged | None) -> str:
    """A figure and its interval, e.g. ``28% (24–33)``."""
    return "–" if judged is None else f"{judged.accuracy:.0%} ({100 * judged.low:.0f}–{100 * judged.high:.0f})"


def duration(seconds: float) -> str:
    """A time, e.g. ``40 s`` or ``12 min``."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def expected_time(prepared: Prepared, candidates: Sequence[Candidate], minutes: float) -> str:
    """What takes time in a run, and about how long."""
    streams = {model.stream for one in candidates for model in one.members or (one,)}
    what = [name for stream, name in (("pose", "joints"), ("rgb", "image features")) if stream in streams]
    labelled = int((prepared.labels != UNKNOWN).sum())
    found = duration(SECONDS_PER_CLIP * labelled * len(streams) / available_cores())
    told = f"time: about {found} to find {' and '.join(what)}, unless they are stored already"
    networks = any(one.method != "linear" for one in candidates) and minutes > 0
    if not networks:
        return f"{told}; the rest takes seconds"
    return f"{told}; then networks are tried for at most {duration(60 * minutes)} (--minutes), and the best is trained"


def counts(prepared: Prepared) -> str:
    """How much there was to learn from, e.g. ``6 classes, 371 labelled clips, 11 groups``."""
    labelled = int((prepared.labels != UNKNOWN).sum())
    without = len(prepared.labels) - labelled
    return (
        f"{plural(len(prepared.classes), 'class', 'classes')}, {quantity(labelled, 'labelled clip')}"
        + (f", {quantity(without, 'unlabelled clip')}" if without else "")
        + f", {quantity(prepared.groups.count, 'group')}"
    )


def serve_command(model: Path) -> str:
    """The command that serves a model."""
    return f"sefar serve --model {shlex.quote(str(model))}"


def python_lines(model: Path) -> str:
    """Lines of Python that use a model."""
    name = json.dumps(str(model), ensure_ascii=False)
    return f'import sefar_serve as sefar\n\nmodel = sefar.load({name})\nresult = model.classify("clip.mp4")'


def learnt_groups(prepared: Prepared) -> int:
    """Number of groups that have labelled clips."""
    return len(np.unique(prepared.groups.of[prepared.labels != UNKNOWN]))


def unmeasured(choice: Choice) -> bool:
    """Whether no answer of the chosen model could be checked."""
    return choice.trial is None or choice.trial.deciding is None


def about_eta(answers: Answers) -> str:
    """What η is, and how well it separates right from wrong answers."""
    eta = answers.report.eta
    told = (
        "Answers have a reliability η, from 0 to 1: near 1 if ten answers of the model, each without a random part of "
        "the embedding, are sure and agree. It ranks answers; it is not a probability."
    )
    if eta is None:
        return f"{told} How well it separates right from wrong answers was not measured."
    if eta.auroc is None or eta.auroc_probability is None or eta.mean_right is None or eta.mean_wrong is None:
        return f"{told} All cross-validated answers are right or all are wrong, so there is nothing to separate here."
    wrong = sum(eta.wrong)
    few = f" Only {plural(wrong, 'answer is', 'answers are')} wrong, so this is a rough figure." if wrong < FEW else ""
    return (
        f"{told} Here a right answer has a higher η than a wrong one in {eta.auroc:.0%} of pairs (50% is chance; the "
        f"probability alone: {eta.auroc_probability:.0%}); the mean is {eta.mean_right:.2f} for right and "
        f"{eta.mean_wrong:.2f} for wrong answers, by cross-validation.{few}"
    )


def about_no_familiarity(prepared: Prepared, choice: Choice) -> str:
    """Why a model does not measure familiarity, and what it would need."""
    if choice.chosen.method == "linear":
        have = quantity(int((prepared.labels[prepared.splits.train] != UNKNOWN).sum()), "labelled clip")
        needed = f"at least {FEWEST_HELD_OUT} labelled clips that cross-validation can leave out"
    else:
        have = quantity(len(prepared.splits.val), "val clip")
        needed = f"a val list of at least {FEWEST_HELD_OUT} clips, which takes about {FEWEST_HELD_OUT * 7} clips in all"
    return (
        f"The model marks no clip as unfamiliar, whatever it shows: measuring that needs {needed}; there "
        f"{'is' if have.startswith('1 ') else 'are'} {have}."
    )


def about_new_places(prepared: Prepared, choice: Choice) -> str:
    """How well the model does on clips of groups that it has not seen."""
    if unmeasured(choice) or choice.trial is None:
        return UNMEASURED
    judged = choice.trial.new_places
    if judged is None:
        why = "no class has clips of two groups" if prepared.folds.count else "all labelled clips are of one group"
        return (
            f"In new places: not measured, because {why}. Add clips of other places, persons or days, and say which "
            "clip is of which."
        )
    return (
        f"In new places: {_told(judged)}. This was measured by cross-validation of "
        f"{quantity(learnt_groups(prepared), 'group')} ({prepared.groups.why}), always on groups that the model had "
        "not learnt from." + _unmeasured(prepared, judged, "with clips of too few groups")
    )


def about_same_places(prepared: Prepared, choice: Choice) -> str:
    """How well the model does on other clips of the same groups."""
    if unmeasured(choice) or choice.trial is None:
        return UNMEASURED
    judged = choice.trial.same_places
    if judged is None:
        return "On other clips of the same places: not measured, because no class has two clips."
    without = _unmeasured(prepared, judged, "with too few clips")
    return f"On the rest of this folder, in the same places: {_told(judged)}.{without}"


def about_control(prepared: Prepared, choice: Choice) -> str:
    """What a still frame alone reaches, and whether the model beats it."""
    theirs = choice.control and choice.control.deciding
    chance = f"Chance is {1 / max(len(prepared.classes), 1):.0%}."
    if not theirs:
        return f"What a single still frame tells was not measured. {chance}"
    where = "in new places" if choice.control and choice.control.new_places else "in the same places"
    reached = f"A single still frame alone gets {_told(theirs)} {where}."
    ours = choice.trial and choice.trial.deciding
    if choice.beats_control and ours:
        margin = f"by {100 * (ours.accuracy - theirs.accuracy):.0f} points"
        if ours.low > theirs.high:
            return f"{reached} The model beats it {margin}. {chance}"
        return f"{reached} The model is probably better, {margin}, but the intervals overlap. {chance}"
    return (
        f"{reached} The model does not beat it: its interval does not lie above that figure. So it is not shown that "
        f"the model recognizes movements; it may know places or postures only. {chance}"
    )


def _unmeasured(prepared: Prepared, judged: Judged, why: str) -> str:
    """Which classes the figure does not cover."""
    known = ~np.isnan(judged.probabilities).any(axis=1)
    wanted = np.unique(prepared.labels[prepared.labels != UNKNOWN])
    missing = [prepared.classes[k] for k in np.setdiff1d(wanted, prepared.labels[known]).tolist()]
    if not missing:
        return ""
    return f" It does not cover {plural(len(missing), 'class', 'classes')} {why}: {some(missing)}."


def _told(judged: Judged) -> str:
    return f"{judged.accuracy:.0%} right (95% interval {judged.low:.0%} to {judged.high:.0%})"
