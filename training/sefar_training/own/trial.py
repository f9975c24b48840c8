"""What is tried on a user's clips, how it is judged, and what is chosen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import balanced_accuracy_score

from sefar_serve.metadata import Stream

from ..config import Method

RESAMPLES = 1000
"""Resamples of the groups for an interval."""


@dataclass(frozen=True)
class Candidate:
    """A way to make a model.

    Attributes:
        key: short name, e.g. ``joints-linear``.
        title: what it is, e.g. ``logistic regression on joints``.
        stream: what it sees.
        method: how it learns.
        recipe: name of the recipe that it starts from.
        overrides: changes of the recipe, ``key=value``.
        members: a model of frames and one of joints that are joined to this one; empty for a model that is trained.
    """

    key: str
    title: str
    stream: Stream
    method: Method
    recipe: str
    overrides: tuple[str, ...] = ()
    members: tuple[Candidate, ...] = ()


@dataclass(frozen=True)
class Judged:
    """Predictions of clips that a model did not learn from.

    Attributes:
        probabilities: float64 (N,K) for all N clips of the collection; rows of NaN for clips in no fold.
        accuracy: balanced accuracy, 0 to 1.
        low, high: its 95 % interval, from a bootstrap over groups.
    """

    probabilities: NDArray[np.float64]
    accuracy: float
    low: float
    high: float


@dataclass(frozen=True)
class Trial:
    """A candidate that was judged by cross-validation of the labelled clips.

    Attributes:
        candidate: what was tried.
        new_places: no clip of a judged group was learned from; None if there is one group only.
        same_places: clips of the same groups were learned from; None if no class has two clips.
        seconds: how long it took.
    """

    candidate: Candidate
    new_places: Judged | None
    same_places: Judged | None
    seconds: float

    @property
    def deciding(self) -> Judged | None:
        """What candidates are compared by: new places if there are any."""
        return self.new_places or self.same_places


@dataclass(frozen=True)
class Choice:
    """What is chosen, and why.

    Attributes:
        chosen: the best candidate.
        trials: all that were judged, the best first; empty if the labels do not allow any.
        control: the best that a single still frame does, judged as the candidates are; None if it was not judged.
        reasons: sentences for the user: what decided, what was left out and why, what the model cannot do.
    """

    chosen: Candidate
    trials: tuple[Trial, ...]
    control: Trial | None
    reasons: tuple[str, ...]

    @property
    def trial(self) -> Trial | None:
        """The judgement of the chosen candidate."""
        return next((trial for trial in self.trials if trial.candidate == self.chosen), None)

    @property
    def beats_control(self) -> bool:
        """Whether the model is better than a still frame, by its interval; True if there is nothing to compare."""
        ours, theirs = self.trial and self.trial.deciding, self.control and self.control.deciding
        return not ours or not theirs or ours.low > theirs.accuracy


def judge(
    probabilities: NDArray[np.float64], labels: NDArray[np.int64], groups: NDArray[np.int64], seed: int = 0
) -> Judged:
    """Judge predictions; the interval comes from drawing groups with replacement.

    Args:
        probabilities: float64 (N,K), NaN in rows without a prediction.
        labels: int64 (N,).
        groups: int64 (N,).
        seed: of the draws.

    Raises:
        ValueError: no clip has a prediction.
    """
    known = np.flatnonzero(~np.isnan(probabilities).any(axis=1))
    if not len(known):
        raise ValueError("no clip has a prediction")
    right = probabilities[known].argmax(axis=1) == labels[known]
    _, group = np.unique(groups[known], return_inverse=True)
    classes, label = np.unique(labels[known], return_inverse=True)
    # Clips and right answers of each class in each group: a resample is then a weighted sum.
    clips, hits = np.zeros((2, group.max() + 1, len(classes)))
    np.add.at(clips, (group, label), 1)
    np.add.at(hits, (group, label), right)
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(len(clips), np.full(len(clips), 1 / len(clips)), RESAMPLES)
    with np.errstate(invalid="ignore"):
        by_class = (weights @ hits) / (weights @ clips)  # NaN where no group of a class was drawn
    low, high = np.quantile(np.nanmean(by_class, axis=1), (0.025, 0.975))
    accuracy = balanced_accuracy_score(labels[known], probabilities[known].argmax(axis=1))
    return Judged(probabilities, float(accuracy), float(low), float(high))
