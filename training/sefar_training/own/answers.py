"""What cross-validated predictions say about single clips: which are hard, and which labels may be wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..data import ClassTable
from ..evaluation import EvaluationReport, score
from .trial import Judged

SURE = 0.5
"""Least probability of another class for a label to be worth checking."""

TINY = 1e-30

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Answers:
    """Predictions of the M clips that were in a fold.

    Attributes:
        clips: int64 (M,), their numbers in the collection.
        labels: int64 (M,), their classes.
        probabilities: float64 (M,K).
        report: every figure of them.
    """

    clips: Indices
    labels: Indices
    probabilities: NDArray[np.float64]
    report: EvaluationReport

    @property
    def predicted(self) -> Indices:
        """The most probable class of each, int64 (M,)."""
        return self.probabilities.argmax(axis=1)

    @property
    def of_label(self) -> NDArray[np.float64]:
        """The probability of each clip's own class, float64 (M,)."""
        return self.probabilities[np.arange(len(self.clips)), self.labels]

    def hardest(self, most: int) -> Indices:
        """Wrongly answered clips, positions in `clips`, those with the least probable class first."""
        wrong = np.flatnonzero(self.predicted != self.labels)
        return wrong[np.argsort(self.of_label[wrong], kind="stable")][:most]

    def behind(self, true: int, predicted: int, most: int) -> Indices:
        """Clips behind a cell of the confusion matrix, positions in `clips`, the surest answers first."""
        cell = np.flatnonzero((self.labels == true) & (self.predicted == predicted))
        return cell[np.argsort(-self.probabilities[cell, predicted], kind="stable")][:most]


@dataclass(frozen=True)
class Doubt:
    """A label that is worth checking.

    Attributes:
        clip: number of the clip in the collection.
        answer: the class that was predicted instead.
        probability: of the answer; the lowest if there are several judgements.
    """

    clip: int
    answer: int
    probability: float


def answers_of(judged: Judged, labels: Indices, classes: Sequence[str]) -> Answers:
    """Compare predictions with labels.

    Args:
        judged: the predictions of N clips.
        labels: int64 (N,).
        classes: names of the K classes.

    Raises:
        EvaluationError: no clip has a prediction.
    """
    clips = np.flatnonzero(~np.isnan(judged.probabilities).any(axis=1))
    probabilities = judged.probabilities[clips]
    logits = np.log(np.maximum(probabilities, TINY)).astype(np.float32)
    samples = None if judged.mc_logits is None else judged.mc_logits[clips].astype(np.float32)
    report = score(logits, labels[clips], ClassTable(tuple(classes)), samples)
    return Answers(clips, labels[clips], probabilities, report)


def find_doubts(judgements: Sequence[Judged], labels: Indices) -> list[Doubt]:
    """Find labels that are worth checking (confident learning, Northcutt et al., arXiv 1911.00068).

    A label is doubtful if all judgements of its clip give the same other class, each with a probability of at least
    `SURE`, and of at least what clips of that class get for it on average.

    Args:
        judgements: predictions of the N clips.
        labels: int64 (N,).

    Returns:
        The doubtful labels, the surest answers first.
    """
    found: dict[int, list[Doubt]] = {}
    judged = np.zeros(len(labels), np.int64)
    for judgement in judgements:
        known = np.flatnonzero(~np.isnan(judgement.probabilities).any(axis=1))
        judged[known] += 1
        probabilities, label = judgement.probabilities[known], labels[known]
        usual = {k: float(probabilities[label == k, k].mean()) for k in np.unique(label).tolist()}
        for clip, row, own in zip(known.tolist(), probabilities, label.tolist(), strict=True):
            answer = int(row.argmax())
            if answer != own and row[answer] >= max(SURE, usual.get(answer, 1.0)):
                found.setdefault(clip, []).append(Doubt(clip, answer, float(row[answer])))
    agreed = [
        min(doubts, key=lambda doubt: doubt.probability)
        for clip, doubts in found.items()
        if len(doubts) == judged[clip] and len({doubt.answer for doubt in doubts}) == 1
    ]
    return sorted(agreed, key=lambda doubt: (-doubt.probability, doubt.clip))
