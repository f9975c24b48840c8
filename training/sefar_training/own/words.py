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
from .trial import Candidate, Choice, Judged

SECONDS_PER_CLIP = 0.7
"""About how long one core takes to find the joints of a clip, and to describe its frames; measured on clips of 2 s."""

UNMEASURED = (
    "How good the model is was not measured: there are too few labelled clips. Label at least three of each class."
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
    return told + (f"; then networks, for at most {duration(60 * minutes)} (--minutes)" if networks else "")


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


def about_new_places(prepared: Prepared, choice: Choice) -> str:
    """How well the model does on clips of groups that it has not seen."""
    if choice.trial is None:
        return UNMEASURED
    judged = choice.trial.new_places
    if judged is None:
        return (
            "In new places: not measured, because all labelled clips are of one group. Add clips of other places, "
            "persons or days, and say which clip is of which."
        )
    return (
        f"In new places: {_told(judged)}. This was measured by cross-validation of "
        f"{quantity(learnt_groups(prepared), 'group')} ({prepared.groups.why}), always on groups that the model had "
        "not learnt from." + _unmeasured(prepared, judged, "with clips of too few groups")
    )


def about_same_places(prepared: Prepared, choice: Choice) -> str:
    """How well the model does on other clips of the same groups."""
    if choice.trial is None:
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
    if choice.beats_control:
        return f"{reached} The model beats it. {chance}"
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
    return f"{judged.accuracy:.0%} right (95 % interval {judged.low:.0%} to {judged.high:.0%})"
