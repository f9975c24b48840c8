"""The metrics behind a report, each a pure function of arrays."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Z95 = 1.959963984540054
"""Half-width of the central 95 % of a standard normal distribution."""


class Bins(NamedTuple):
    """Answers grouped by their confidence, in B equal-width bins of (0, 1]."""

    edges: NDArray[np.float64]
    """(B+1,), bin b is (edges[b], edges[b+1]]; the first bin also includes 0."""
    clips: NDArray[np.int64]
    """(B,)."""
    confidence: NDArray[np.float64]
    """(B,), mean confidence; NaN where a bin is empty."""
    accuracy: NDArray[np.float64]
    """(B,), share of right answers; NaN where a bin is empty."""


def calibration_bins(confidence_N: NDArray[np.float64], right_N: NDArray[np.bool_], bins: int = 15) -> Bins:
    """Group answers by confidence (Guo et al., arXiv 1706.04599).

    Args:
        confidence_N: probability of each answer, in [0, 1].
        right_N: whether each answer is right.
        bins: number of bins B.
    """
    edges = np.linspace(0, 1, bins + 1)
    of_N = np.digitize(confidence_N, edges[1:-1], right=True)
    count = np.bincount(of_N, minlength=bins)
    full = np.where(count, count, np.nan)
    confidence = np.bincount(of_N, confidence_N, minlength=bins) / full
    return Bins(edges, count, confidence, np.bincount(of_N, right_N, minlength=bins) / full)


def calibration_error(bins: Bins) -> float:
    """Expected calibration error: the mean over answers of |accuracy − confidence| of their bin, in [0, 1]."""
    some = bins.clips > 0
    gap = np.abs(bins.accuracy[some] - bins.confidence[some])
    return float((gap * bins.clips[some]).sum() / bins.clips.sum())


def auroc(signal_N: NDArray[np.float64], right_N: NDArray[np.bool_]) -> float | None:
    """How well a signal tells right answers from wrong ones: the area under its ROC curve.

    That is the share of (right, wrong) pairs in which the right answer has the higher signal. Ties count half
    (Mann-Whitney). 0.5 is chance level.

    Args:
        signal_N: finite values on any scale.
        right_N: whether each answer is right.

    Returns:
        The area in [0, 1]; None where all answers are right or all are wrong.
    """
    right = int(right_N.sum())
    wrong = len(right_N) - right
    if not right or not wrong:
        return None
    _, place, count = np.unique(signal_N, return_inverse=True, return_counts=True)
    rank = np.cumsum(count) - (count - 1) / 2  # equal signals share their mean rank
    return float((rank[place][right_N].sum() - right * (right + 1) / 2) / (right * wrong))


def wilson_interval(successes: int, count: int, z: float = Z95) -> tuple[float, float]:
    """Wilson score interval of a share, 95 % by default. It stays within [0, 1].

    Args:
        successes: at most `count`.
        count: at least 1.
        z: half-width in standard deviations.
    """
    share = successes / count
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    # At shares of 0 and 1, rounding must not move a bound past the share itself.
    return max(min(middle - half, share), 0.0), min(max(middle + half, share), 1.0)


def confusion_matrix(labels_N: NDArray[np.int64], predicted_N: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Count the clips of each true class (row) by predicted class (column), int64 (K,K)."""
    return np.bincount(labels_N * classes + predicted_N, minlength=classes**2).reshape(classes, classes)
