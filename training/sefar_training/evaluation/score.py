"""Predictions against labels: the report with every figure of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from sefar_serve.errors import SefarError
from sefar_serve.reliability import reliabilities, softmax

from ..data import ClassTable
from .measures import auroc, calibration_bins, calibration_error, confusion_matrix, wilson_interval

CONFUSED_PAIRS = 20
"""Pairs of classes that a report lists as most confused."""

ETA_BINS = 20
"""Equal-width bins of [0, 1] in the histograms of η."""


class EvaluationError(SefarError, ValueError):
    """A list cannot be evaluated with this model."""


class _Figures(BaseModel):
    model_config = ConfigDict(frozen=True)


class CalibrationBin(_Figures):
    """Clips whose top-1 probability is in (low, high].

    Attributes:
        low: exclusive, except for 0.
        high: inclusive.
        clips: number of them.
        confidence: their mean top-1 probability; None where there is none.
        accuracy: share of them that is right; None where there is none.
    """

    low: float
    high: float
    clips: int
    confidence: float | None
    accuracy: float | None


class ConfusedPair(_Figures):
    """Clips of one class that were taken for another.

    Attributes:
        true: label of their class.
        predicted: label of the class they were taken for.
        clips: number of them.
        share: of the true class's clips.
        opposite: the two are exact opposites in time.
    """

    true: str
    predicted: str
    clips: int
    share: float
    opposite: bool


class EtaFigures(_Figures):
    """Whether η, the Adaptive-Regulation coefficient of each answer, tells right from wrong.

    Attributes:
        auroc: chance that a right answer has the higher η than a wrong one, equal ones counting half; None where all
            answers are right or all are wrong.
        auroc_probability: the same of the top-1 probability.
        mean_right: mean η of right answers; None where there is none.
        mean_wrong: mean η of wrong answers; None where there is none.
        right: right answers by η, in `ETA_BINS` equal-width bins of [0, 1].
        wrong: wrong answers likewise.
    """

    auroc: float | None
    auroc_probability: float | None
    mean_right: float | None
    mean_wrong: float | None
    right: list[int]
    wrong: list[int]


class EvaluationReport(_Figures):
    """What a model does on a list of clips; accuracies are shares on [0, 1].

    Attributes:
        clips: number of clips.
        temporal_views: times that each clip was looked at over its length.
        spatial_crops: squares that were cut from each of its pictures.
        top1: the true class scores highest.
        top1_low: lower end of top-1's 95 % interval (Wilson).
        top1_high: upper end.
        top5: the true class is among the five highest.
        mean_class: top-1 averaged over the classes present, each weighing the same.
        attributes: for each attribute, how often the predicted class has the true class's value.
        opposite_pairs: over clips whose class has an exact opposite in time, how often the true class
            scores above its opposite; None where there is no such clip.
        opposite_confusion: over the same clips, how often the opposite is the answer.
        opposite_clips: number of such clips.
        ece: expected calibration error of the top-1 probability, over the bins of `calibration`.
        calibration: clips by top-1 probability.
        eta: η as a sign of right answers; None where there are no Monte-Carlo samples.
        per_class: top-1 of each class present.
        labels: the K classes.
        confusion: clips of each true class (row) by the class they were taken for (column), K x K.
        confused_pairs: the most confused classes, most clips first.
    """

    clips: int
    temporal_views: int = 1
    spatial_crops: int = 1
    top1: float
    top1_low: float
    top1_high: float
    top5: float
    mean_class: float
    attributes: dict[str, float]
    opposite_pairs: float | None
    opposite_confusion: float | None
    opposite_clips: int
    ece: float
    calibration: list[CalibrationBin]
    eta: EtaFigures | None
    per_class: dict[str, float]
    labels: list[str]
    confusion: list[list[int]]
    confused_pairs: list[ConfusedPair]


def check_labels(labels: Sequence[int] | NDArray[np.int64], classes: int) -> None:
    """Make sure that every clip can be judged.

    Raises:
        EvaluationError: if there is no clip, or a label is not one of the classes.
    """
    if not len(labels):
        raise EvaluationError("there is no clip to evaluate")
    wrong = next((label for label in (max(labels), min(labels)) if not 0 <= label < classes), None)
    if wrong is not None:
        raise EvaluationError(f"the list has label {wrong}, but the model knows {classes} classes, from 0")


def score(
    logits_NK: NDArray[np.float32],
    labels_N: NDArray[np.int64],
    classes: ClassTable,
    mc_logits_NTK: NDArray[np.float32] | None = None,
) -> EvaluationReport:
    """Compare predictions with labels.

    Args:
        logits_NK: class scores; their softmax is the model's probability.
        labels_N: true classes.
        classes: names, attributes and opposites of the K classes.
        mc_logits_NTK: Monte-Carlo samples of the scores, for η.

    Raises:
        EvaluationError: if a label is not one of the K classes, there is no clip, or a score is not a number.
    """
    count, known = logits_NK.shape
    check_labels(labels_N, known)
    for scores in (logits_NK, mc_logits_NTK):
        if scores is not None and not np.isfinite(scores).all():
            raise EvaluationError("the model's scores are not all finite numbers: its weights are broken")
    rows = np.arange(count)
    true = logits_NK[rows, labels_N]
    predicted = logits_NK.argmax(axis=1)
    right = predicted == labels_N
    rank = (logits_NK > true[:, None]).sum(axis=1)
    present = np.unique(labels_N)
    accuracy = [float(right[labels_N == c].mean()) for c in present]

    opposite = np.array([-1 if o is None else o for o in classes.opposites or [None] * known])
    paired = opposite[labels_N] >= 0
    above = true[paired] > logits_NK[rows[paired], opposite[labels_N[paired]]]
    swapped = predicted[paired] == opposite[labels_N[paired]]

    confidence = softmax(logits_NK).max(axis=1)
    bins = calibration_bins(confidence, right)
    low, high = wilson_interval(int(right.sum()), count)
    confusion = confusion_matrix(labels_N, predicted, known)
    return EvaluationReport(
        clips=count,
        top1=float(right.mean()),
        top1_low=float(low),
        top1_high=float(high),
        top5=float((rank < 5).mean()),
        mean_class=float(np.mean(accuracy)),
        attributes=_attributes(labels_N, predicted, classes),
        opposite_pairs=float(above.mean()) if len(above) else None,
        opposite_confusion=float(swapped.mean()) if len(above) else None,
        opposite_clips=len(above),
        ece=calibration_error(bins),
        calibration=[
            CalibrationBin(
                low=bins.edges[b],
                high=bins.edges[b + 1],
                clips=n,
                confidence=bins.confidence[b] if n else None,
                accuracy=bins.accuracy[b] if n else None,
            )
            for b, n in enumerate(bins.clips.tolist())
        ],
        eta=None if mc_logits_NTK is None else _eta(reliabilities(mc_logits_NTK), confidence, right),
        per_class={classes.labels[c]: value for c, value in zip(present, accuracy, strict=True)},
        labels=list(classes.labels),
        confusion=confusion.tolist(),
        confused_pairs=_confused(confusion, opposite, classes.labels),
    )


def _attributes(labels_N: NDArray[np.int64], predicted_N: NDArray[np.int64], classes: ClassTable) -> dict[str, float]:
    """For each attribute, how often the predicted class has the true class's value."""
    found = {}
    for name in sorted({key for entry in classes.attributes for key in entry}):
        values = [entry.get(name) for entry in classes.attributes]
        same = [values[p] == values[t] for p, t in zip(predicted_N, labels_N, strict=True) if values[t] is not None]
        if same:
            found[name] = float(np.mean(same))
    return found


def _eta(eta_N: NDArray[np.float64], confidence_N: NDArray[np.float64], right_N: NDArray[np.bool_]) -> EtaFigures:
    of_right, of_wrong = eta_N[right_N], eta_N[~right_N]
    return EtaFigures(
        auroc=auroc(eta_N, right_N),
        auroc_probability=auroc(confidence_N, right_N),
        mean_right=float(of_right.mean()) if len(of_right) else None,
        mean_wrong=float(of_wrong.mean()) if len(of_wrong) else None,
        right=np.histogram(of_right, ETA_BINS, (0, 1))[0].tolist(),
        wrong=np.histogram(of_wrong, ETA_BINS, (0, 1))[0].tolist(),
    )


def _confused(
    confusion_KK: NDArray[np.int64], opposite_K: NDArray[np.int64], labels: Sequence[str]
) -> list[ConfusedPair]:
    """The pairs of different classes with the most clips; of equal ones, those that are more of their class."""
    wrong = confusion_KK - np.diag(np.diag(confusion_KK))
    total = confusion_KK.sum(axis=1)
    pairs = [(int(wrong[t, p]), float(wrong[t, p] / total[t]), int(t), int(p)) for t, p in np.argwhere(wrong)]
    pairs.sort(key=lambda pair: (-pair[0], -pair[1], pair[2], pair[3]))
    return [
        ConfusedPair(true=labels[t], predicted=labels[p], clips=n, share=share, opposite=bool(opposite_K[t] == p))
        for n, share, t, p in pairs[:CONFUSED_PAIRS]
    ]
