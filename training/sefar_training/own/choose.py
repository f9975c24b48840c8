"""Chooses a model for a user's clips by what candidates reach in cross-validation, and says why."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

from sefar_serve.errors import SefarError

from .candidates import CANDIDATES
from .compare import Comparison, OneStreamError, OutOfTimeError
from .trial import Candidate, Choice, Trial
from .words import duration, interval

CLOSE = 0.01
"""Candidates within this much of the best count as equally good, and the simplest of them is chosen."""

HOPELESS = 0.5
"""A network is not tried on what logistic regression cannot use: where its accuracy above chance is below this share of
that of the best."""

Say = Callable[[str], None]


class NothingToTryError(SefarError, RuntimeError):
    """No candidate can be tried; the message says what each lacks."""


def choose(
    comparison: Comparison, candidates: Sequence[Candidate], reasons: Sequence[str], say: Say, minutes: float
) -> Choice:
    """Try the candidates and choose one. Ctrl-C ends the trials; what was judged by then is chosen from.

    Args:
        comparison: judges them.
        candidates: what to try, the simplest first.
        reasons: why others were left out.
        say: told each result at once.
        minutes: about how long networks may be tried.

    Raises:
        NothingToTryError: none of them can be tried.
        KeyboardInterrupt: before the first was judged.
    """
    told = list(reasons)
    trials: list[Trial] = []
    controls: list[Trial] = []
    unavailable: dict[str, str] = {}
    # What takes seconds comes first, so that Ctrl-C loses little.
    ordered = sorted(candidates, key=lambda one: one.method != "linear")
    deadline = math.inf
    for number, candidate in enumerate(ordered):
        try:
            if {candidate.stream, *(member.stream for member in candidate.members)} & unavailable.keys():
                continue
            if candidate.method != "linear" and (why := _hopeless(candidate, trials, comparison)):
                told.append(why)
                continue
            if candidate.method != "linear":
                deadline = min(deadline, time.monotonic() + 60 * minutes)
            trials.append(comparison.trial(candidate, deadline, _networks(ordered[number + 1 :])))
            say(f"{candidate.title}: {figures(trials[-1])}, {duration(trials[-1].seconds)}")
            if candidate.method == "linear" and not (candidate.members and controls):
                controls += [comparison.control(model) for model in candidate.members or (candidate,)]
        except OutOfTimeError as error:
            told.append(f"{candidate.title}: not tried, {error}; give more with --minutes.")
        except OneStreamError as error:
            told.append(f"{candidate.title}: {error}.")
        except KeyboardInterrupt:
            if not trials:
                raise
            told.append(f"{candidate.title}: stopped by Ctrl-C.")
            break
        except (SefarError, ModuleNotFoundError) as error:
            unavailable[candidate.stream] = str(error)
            told.append(f"{candidate.title}: not tried, {error}")
    if not trials:
        raise NothingToTryError("; ".join(told))
    trials.sort(key=_accuracy, reverse=True)
    close = [trial for trial in trials if _accuracy(trial) >= _accuracy(trials[0]) - CLOSE]
    best = min(close, key=lambda trial: CANDIDATES.index(trial.candidate))
    control = max(controls, key=_accuracy, default=None)
    choice = Choice(best.candidate, tuple(trials), control, ())
    return Choice(best.candidate, tuple(trials), control, (*_why(choice, best, trials), *told))


def figures(trial: Trial) -> str:
    """Both figures of a trial, e.g. ``new places 28% (24–33), same places 60% (55–66)``."""
    return f"new places {interval(trial.new_places)}, same places {interval(trial.same_places)}"


def _networks(candidates: Sequence[Candidate]) -> int:
    return sum(candidate.method != "linear" for candidate in candidates)


def _accuracy(trial: Trial) -> float:
    return trial.deciding.accuracy if trial.deciding is not None else 0.0


def _hopeless(candidate: Candidate, trials: Sequence[Trial], comparison: Comparison) -> str:
    """Why a network is not worth its training; empty if it is."""
    chance = 1 / max(len(comparison.prepared.classes), 1)
    best = max((_accuracy(trial) for trial in trials), default=0.0)
    beside = max((_accuracy(t) for t in trials if t.candidate.stream == candidate.stream), default=None)
    if beside is None or beside - chance >= HOPELESS * (best - chance):
        return ""
    reached = f"logistic regression on the same input reaches {beside:.0%}, the best {best:.0%}"
    return f"{candidate.title}: not tried, because {reached}."


def _why(choice: Choice, best: Trial, trials: Sequence[Trial]) -> list[str]:
    where = "new places" if best.new_places is not None else "clips left out"
    told = [f"Chosen by balanced accuracy on {where}: {best.candidate.title}, {figures(best)}."]
    if best is not trials[0]:
        told.append(
            f"{trials[0].candidate.title} reaches {_accuracy(trials[0]):.1%}, which is less than "
            f"{100 * CLOSE:.0f} point more; the simpler model is taken."
        )
    if best.new_places is None:
        told.append("All clips are of one group, so nothing is known about new places.")
    if choice.control is not None and not choice.beats_control:
        told.append(
            f"A model that sees the first frame alone reaches {_accuracy(choice.control):.0%}. This one is not "
            "surely better: it may tell the classes by place or posture, not by movement."
        )
    return told
