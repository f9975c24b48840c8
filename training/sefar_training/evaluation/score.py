"""Predictions compared with labels: a report with every figure of an evaluation."""

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
"""Most pairs of classes that a report lists as confused."""

ETA_BINS = 20
"""Equal-width bins of [0, 1] in the histograms of η."""


class EvaluationError(SefarError, ValueError):
    """The model cannot be evaluated on this list."""


class _Figures(BaseModel):
    model_config = ConfigDict(frozen=True)


class CalibrationBin(_Figures):
    """Clips whose top-1 probability is in (low, high].

    Attributes:
        low: lower bound; exclusive, except for 0.
        high: upper bound, inclusive.
        clips: number of clips.
        confidence: their mean top-1 probability; None if there are no clips.
        accuracy: share classified correctly; None if there are no clips.
    """

    low: float
    high: float
    clips: int
    confidence: float | None
    accuracy: float | None


class ConfusedPair(_Figures):
    """Clips of one class that were classified as another.

    Attributes:
        true: label of their class.
        predicted: label of the predicted class.
        clips: number of clips.
        share: their share of the true class's clips.
        opposite: whether the two classes are exact opposites in time.
    """

    true: str
    predicted: str
    clips: int
    share: float
    opposite: bool


class EtaFigures(_Figures):
    """How well η, the Adaptive-Regulation coefficient of each answer, separates right from wrong answers.

    Attributes:
        auroc: probability that a right answer has a higher η than a wrong one, ties counting half; None if all
            answers are right or all are wrong.
        auroc_probability: the same for the top-1 probability.
        mean_right: mean η of right answers; None if there are none.
        mean_wrong: mean η of wrong answers; None if there are none.
        right: histogram of η over right answers, in `ETA_BINS` equal-width bins of [0, 1].
        wrong: the same for wrong answers.
    """

    auroc: float | None
    auroc_probability: float | None
    mean_right: float | None
    mean_wrong: float | None
    right: list[int]
    wrong: list[int]


class EvaluationReport(_Figures):
    """A model's results on a list of clips. Accuracies are shares in [0, 1].

    Attributes:
        clips: number of clips.
        temporal_views: views of each clip over time.
        spatial_crops: square crops of each frame.
        top1: the true class scores highest.
        top1_low: lower bound of top-1's 95 % interval (Wilson).
        top1_high: upper bound.
        top5: the true class is among the five highest.
        mean_class: mean of the per-class top-1, over the classes in the list.
        attributes: for each attribute, how often the predicted class has the true class's value.
        opposite_pairs: how often the true class scores above its exact opposite in time, over the clips whose class
            has one; None if there are no such clips.
        opposite_confusion: how often the opposite is predicted, over the same clips.
        opposite_clips: number of these clips.
        ece: expected calibration error of the top-1 probability, over the bins of `calibration`.
        calibration: clips by top-1 probability.
        eta: how well η separates right from wrong answers; None without Monte-Carlo samples.
        per_class: top-1 of each class in the list.
        labels: the K classes.
        confusion: clips of each true class (row) by predicted class (column), K x K.
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
    """Check that every clip has a class that the model knows.

    Raises:
        EvaluationError: there are no clips, or a label is not one of the classes.
    """
    if not len(labels):
        raise EvaluationError("there are no clips to evaluate")
    wrong = next((label for label in (max(labels), min(labels)) if not 0 <= label < classes), None)
    if wrong is not None:
        raise EvaluationError(f"the list has label {wrong}, but the model's {classes} classes are 0 to {classes - 1}")


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
        EvaluationError: a label is not one of the K classes, there are no clips, or a score is not finite.
    """
    count, known = logits_NK.shape
    check_labels(labels_N, known)
    for scores in (logits_NK, mc_logits_NTK):
        if scores is not None and not np.isfinite(scores).all():
            raise EvaluationError("the model's scores are not all finite; its weights are damaged or training diverged")
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
    """The confused pairs with the most clips; ties are ordered by their share of the true class."""
    wrong = confusion_KK - np.diag(np.diag(confusion_KK))
    total = confusion_KK.sum(axis=1)
    pairs = [(int(wrong[t, p]), float(wrong[t, p] / total[t]), int(t), int(p)) for t, p in np.argwhere(wrong)]
    pairs.sort(key=lambda pair: (-pair[0], -pair[1], pair[2], pair[3]))
    return [
        ConfusedPair(true=labels[t], predicted=labels[p], clips=n, share=share, opposite=bool(opposite_K[t] == p))
        for n, share, t, p in pairs[:CONFUSED_PAIRS]
    ]
