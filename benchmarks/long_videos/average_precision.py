"""Mean average precision of temporal detections, as ActivityNet's evaluation defines it.

Within a class, detections of all videos are ordered by score. Each is compared with the true segments of its class in
its video, the one with the largest overlap first: it is right if that overlap (intersection over union in time, tIoU)
reaches the threshold and no earlier detection took the segment. Otherwise the next largest is tried. Average precision
is the area under the precision-recall curve, with precision made monotonic; its mean is over classes that occur.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Truth(NamedTuple):
    """A true segment; times in seconds."""

    video: Hashable
    start: float
    end: float
    label: Hashable


class Detection(NamedTuple):
    """A predicted segment; times in seconds."""

    video: Hashable
    start: float
    end: float
    label: Hashable
    score: float


def tiou(start: float, end: float, others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Overlap of a span with others, as intersection over union.

    Args:
        start: seconds.
        end: seconds; after `start`.
        others: float64 (N,2), start and end in seconds.
    """
    common = np.clip(np.minimum(end, others[:, 1]) - np.maximum(start, others[:, 0]), 0, None)
    either = (end - start) + (others[:, 1] - others[:, 0]) - common
    return np.asarray(common / either)


def mean_average_precision(truth: Sequence[Truth], found: Sequence[Detection], threshold: float) -> float:
    """Mean over the classes of the truth.

    Args:
        truth: not empty.
        found: in any order; classes that do not occur are ignored. Of equal scores the earlier one counts first.
        threshold: smallest tIoU of a right detection.

    Returns:
        In [0, 1].

    Raises:
        ValueError: there is no true segment.
    """
    if not truth:
        raise ValueError("there are no true segments to detect")
    labels = {one.label for one in truth}
    return float(
        np.mean(
            [
                average_precision(
                    [one for one in truth if one.label == label],
                    [one for one in found if one.label == label],
                    threshold,
                )
                for label in labels
            ]
        )
    )


def average_precision(truth: Sequence[Truth], found: Sequence[Detection], threshold: float) -> float:
    """Average precision of one class. Arguments as in `mean_average_precision`, all of one class."""
    return _area(_matched(truth, found, threshold), len(truth))


def f1(truth: Sequence[Truth], found: Sequence[Detection], threshold: float) -> float:
    """Harmonic mean of precision and recall over all classes, with detections matched as for average precision.

    Args:
        truth: not empty.
        found: every one counts, whatever its score; scores only decide which of several takes a true segment.
        threshold: smallest tIoU of a right detection.
    """
    labels = {one.label for one in truth}
    hits = sum(
        int(
            _matched(
                [one for one in truth if one.label == label], [one for one in found if one.label == label], threshold
            ).sum()
        )
        for label in labels
    )
    return 2 * hits / (len(truth) + len(found))


def suppressed(found: Sequence[Detection], threshold: float = 0.3) -> list[Detection]:
    """Non-maximum suppression: drops a detection that overlaps one of its class and video with a higher score.

    Args:
        found: in any order.
        threshold: smallest tIoU at which it is dropped.
    """
    kept: list[Detection] = []
    for one in sorted(found, key=lambda each: -each.score):
        rivals = [(other.start, other.end) for other in kept if other.video == one.video and other.label == one.label]
        if not rivals or tiou(one.start, one.end, np.array(rivals)).max() < threshold:
            kept.append(one)
    return kept


def _matched(truth: Sequence[Truth], found: Sequence[Detection], threshold: float) -> NDArray[np.bool_]:
    """Whether each detection of one class is right, in order of score, bool (N,)."""
    of_video: dict[Hashable, list[tuple[float, float]]] = defaultdict(list)
    for one in truth:
        of_video[one.video].append((one.start, one.end))
    taken: set[tuple[Hashable, int]] = set()
    right = np.zeros(len(found), bool)
    for rank, one in enumerate(sorted(found, key=lambda each: -each.score)):
        if one.video not in of_video:
            continue
        overlaps = tiou(one.start, one.end, np.array(of_video[one.video]))
        for number in np.argsort(-overlaps, kind="stable"):
            if overlaps[number] < threshold:
                break
            if (one.video, int(number)) not in taken:
                taken.add((one.video, int(number)))
                right[rank] = True
                break
    return right


def _area(right: NDArray[np.bool_], count: int) -> float:
    """Area under the precision-recall curve of detections in order of score, of `count` true segments."""
    hits = np.cumsum(right)
    precision = hits / np.arange(1, len(right) + 1)
    best_from_here = np.maximum.accumulate(precision[::-1])[::-1]
    return float(best_from_here[right].sum() / count)
