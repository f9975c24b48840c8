"""From sliding windows to segments: which label holds from when to when.

A model that was trained on clips of one action is right when a window fits an action, and less so when the window cuts
it. So a possible segment is judged by the windows that fit it: its probabilities are a mean over windows, weighted by a
power of their overlap with it. Of all divisions of the timeline, `merge` finds the one with the most time that is
expected to be labelled correctly, at a cost for each segment, which smooths, and with a minimum length. It is a Viterbi
search over segments, exact on a grid of times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sefar_serve.errors import SefarError

BACKGROUND = "background"
"""Name of the class that is left out of the segments by default, if a model has it."""

SMOOTHING = 0.2
"""Default cost of a segment, as a share of the shortest window."""

MIN_LENGTH = 0.5
"""Default length of the shortest segment, as a share of the shortest window."""

_STEPS = 10
"""Steps of the grid in the shortest window. With more, boundaries are no better, and the search takes longer."""

_MOST_WORK = 1e9
"""Multiplications of a search, well under a second. With more windows, or lengths that differ by far, the grid is made
coarser, so that no request can block others."""

_LONGEST = 3.0
"""Longest segment that is judged as one, in windows. Longer ones are several with the same label, then joined."""

_FIT = 4
"""Power of the overlap by which windows are weighted."""

_FLOOR = 1e-4
"""Smallest probability that counts: a window that is sure and wrong must not outvote all others."""

_SLACK = 1e-6
"""Seconds; differences below it are rounding errors."""


class UnknownLabelError(SefarError, ValueError):
    """The label to leave out is not one of the model's."""

    status = 400
    param = "background"
    code = "unknown_label"


@dataclass(frozen=True)
class Merging:
    """How windows become segments.

    Attributes:
        smoothing: cost of each segment, in time that is expected to be labelled correctly, as a share of the shortest
            window; at least 0.
        min_length: of a segment, in seconds; None for `MIN_LENGTH`.
        left_out: number of the class whose segments are left out; None for none.
    """

    smoothing: float = SMOOTHING
    min_length: float | None = None
    left_out: int | None = None


@dataclass(frozen=True)
class Segment:
    """A stretch of time with one label.

    Attributes:
        start: seconds.
        end: seconds.
        index: class number.
        score: probability of the class over the segment, in [0, 1].
    """

    start: float
    end: float
    index: int
    score: float


def background_class(labels: Sequence[str], name: str | None) -> int | None:
    """Number of the class that is left out of the segments; None if there is none.

    Args:
        labels: of the model.
        name: its label; None for `BACKGROUND`, if the model has it.

    Raises:
        UnknownLabelError: it is not one of the labels.
    """
    if name is None:
        return labels.index(BACKGROUND) if BACKGROUND in labels else None
    if name not in labels:
        shown = ", ".join(labels[:5]) + (", …" if len(labels) > 5 else "")
        raise UnknownLabelError(f"background: {name!r} is not a label of this model; its labels are {shown}")
    return labels.index(name)


def merge(times: Sequence[tuple[float, float]], probabilities: NDArray[np.float64], merging: Merging) -> list[Segment]:
    """Merge sliding windows to segments.

    Time that no window covers belongs to no segment, and nor does a stretch of windows that is shorter than the
    shortest segment. Segments are next to each other otherwise, and neighbours have different labels.

    Args:
        times: start and end of each window in seconds, in any order; their lengths may differ.
        probabilities: float64 (N,K), of each window's classes.
        merging: costs and limits.

    Returns:
        The segments, in order of time.
    """
    windows = np.asarray(times, np.float64).reshape(-1, 2)
    found: list[Segment] = []
    for own in _stretches(windows):
        found += _divide(windows[own], probabilities[own], merging)
    return [one for one in found if one.index != merging.left_out]


def _stretches(windows: NDArray[np.float64]) -> list[NDArray[np.int64]]:
    """Numbers of the windows of each stretch of time that windows cover without a gap, in order of start."""
    order = np.argsort(windows[:, 0], kind="stable")
    until = np.maximum.accumulate(windows[order, 1])
    gaps = np.flatnonzero(windows[order[1:], 0] > until[:-1] + _SLACK) + 1
    return [part for part in np.split(order, gaps) if len(part)]


def _divide(windows: NDArray[np.float64], probabilities: NDArray[np.float64], merging: Merging) -> list[Segment]:
    """Segments of one stretch.

    Args:
        windows: float64 (N,2), in order of start.
        probabilities: float64 (N,K).
        merging: costs and limits.
    """
    start, end = windows[0, 0], windows[:, 1].max()
    lengths = windows[:, 1] - windows[:, 0]
    shortest = MIN_LENGTH * lengths.min() if merging.min_length is None else merging.min_length
    if end - start < shortest - _SLACK:
        return []
    cost = merging.smoothing * lengths.min()
    longest = max(_LONGEST * lengths.max(), 2 * shortest)
    # Each pair of edges that may be a segment is compared with the windows near it, for each class.
    near = min(1.0, (longest + lengths.max()) / (end - start)) * probabilities.size
    coarsest = np.sqrt((end - start) * min(longest, end - start) * near / _MOST_WORK)
    steps = max(1, round((end - start) / max(lengths.min() / _STEPS, coarsest)))
    edges = np.linspace(start, end, steps + 1)
    # Without one step more, some lengths could not be divided at all.
    longest += edges[1] - edges[0] + _SLACK
    logs = np.log(np.maximum(probabilities, _FLOOR))
    best = np.full(steps + 1, -np.inf)
    best[0] = 0.0
    origins = np.zeros(steps + 1, np.int64)
    labels = np.zeros(steps + 1, np.int64)
    scores = np.zeros(steps + 1)
    for past in range(1, steps + 1):
        first = int(np.searchsorted(edges, edges[past] - longest))
        until = int(np.searchsorted(edges, edges[past] - shortest + _SLACK, side="right"))
        starts = np.arange(first, min(until, past))
        if not len(starts):
            continue
        chances = _judge(edges[starts], edges[past], windows, logs)
        names = chances.argmax(axis=1)
        sure = chances[np.arange(len(starts)), names]
        gains = best[starts] + (edges[past] - edges[starts]) * sure - cost
        chosen = int(gains.argmax())
        best[past], origins[past] = gains[chosen], starts[chosen]
        labels[past], scores[past] = names[chosen], sure[chosen]
    return _joined(edges, origins, labels, scores, longest) if np.isfinite(best[-1]) else []


def _judge(
    starts: NDArray[np.float64], end: float, windows: NDArray[np.float64], logs: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Probabilities of the classes for segments with the same end, float64 (S,K).

    Args:
        starts: float64 (S,), of the segments, increasing.
        end: of the segments.
        windows: float64 (N,2); in order of start, and at least one overlaps each segment.
        logs: float64 (N,K), logarithms of the windows' probabilities.
    """
    near = np.flatnonzero((windows[:, 0] < end) & (windows[:, 1] > starts[0]))
    windows, logs = windows[near], logs[near]
    both = np.minimum(windows[:, 1], end) - np.maximum(windows[:, 0], starts[:, None])
    both = np.maximum(both, 0.0)
    either = (end - starts)[:, None] + (windows[:, 1] - windows[:, 0]) - both
    weights = (both / either) ** _FIT
    weights /= weights.sum(axis=1, keepdims=True)
    chances = np.exp(weights @ logs)
    return np.asarray(chances / chances.sum(axis=1, keepdims=True))


def _joined(
    edges: NDArray[np.float64],
    origins: NDArray[np.int64],
    labels: NDArray[np.int64],
    scores: NDArray[np.float64],
    longest: float,
) -> list[Segment]:
    """The best division, from what is the best last segment until each edge; neighbours with one label are joined."""
    found: list[Segment] = []
    past = len(edges) - 1
    while past > 0:
        first = int(origins[past])
        one = Segment(float(edges[first]), float(edges[past]), int(labels[past]), float(scores[past]))
        if found and found[-1].index == one.index and found[-1].end - one.start > longest:
            later = found.pop()
            share = (later.end - later.start) / (later.end - one.start)
            score = share * later.score + (1 - share) * one.score
            one = Segment(one.start, later.end, one.index, score)
        found.append(one)
        past = first
    return found[::-1]
