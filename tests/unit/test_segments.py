"""Sliding windows become segments: the best division, its limits, and what is left out."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from sefar_serve.segments import BACKGROUND, Merging, Segment, UnknownLabelError, background_class, merge

SOON = Merging(smoothing=0.1, min_length=0.25)


def windows(length: float, stride: float, until: float) -> list[tuple[float, float]]:
    count = round((until - length) / stride) + 1
    return [(number * stride, number * stride + length) for number in range(count)]


def sure(labels: list[int], classes: int = 3, p: float = 0.9) -> NDArray[np.float64]:
    """Windows that are sure of one class each."""
    found = np.full((len(labels), classes), (1 - p) / (classes - 1))
    found[np.arange(len(labels)), labels] = p
    return found


def spans(found: list[Segment]) -> list[tuple[float, float, int]]:
    return [(one.start, one.end, one.index) for one in found]


def test_two_actions_are_cut_between_their_windows() -> None:
    found = merge(windows(1, 1, 4), sure([0, 0, 2, 2]), SOON)
    assert spans(found) == [(0, 2, 0), (2, 4, 2)]
    assert [one.score for one in found] == pytest.approx([0.9, 0.9], abs=0.02)


def test_overlapping_windows_share_the_time() -> None:
    times = windows(1, 0.25, 4)
    middle = [(start + end) / 2 for start, end in times]
    [first, second] = merge(times, sure([0 if time < 1.5 else 1 for time in middle]), SOON)
    assert (first.start, first.index, second.end, second.index) == (0, 0, 4, 1)
    assert first.end == second.start == pytest.approx(1.5, abs=0.2)


def test_the_order_of_windows_does_not_matter() -> None:
    times, chances = windows(1, 0.25, 5), np.random.default_rng(0).dirichlet(np.ones(4), 17)
    order = np.random.default_rng(1).permutation(17)
    assert merge([times[i] for i in order], chances[order], SOON) == merge(times, chances, SOON)


def test_smoothing_removes_a_window_that_disagrees() -> None:
    times, chances = windows(1, 0.5, 6), sure([0] * 5 + [1] + [0] * 5, p=0.6)
    assert len(merge(times, chances, Merging(smoothing=0, min_length=0))) > 1
    assert spans(merge(times, chances, Merging(smoothing=0.5, min_length=0))) == [(0, 6, 0)]


def test_no_segment_is_shorter_than_the_shortest() -> None:
    times, chances = windows(1, 0.25, 8), np.random.default_rng(0).dirichlet(np.full(5, 0.3), 29)
    free = merge(times, chances, Merging(smoothing=0, min_length=0))
    limited = merge(times, chances, Merging(smoothing=0, min_length=1.5))
    assert min(one.end - one.start for one in free) < 1.5
    assert min(one.end - one.start for one in limited) >= 1.5 - 1e-6
    for found in (free, limited):
        assert (found[0].start, found[-1].end) == (0, 8)
        assert all(one.end == later.start for one, later in itertools.pairwise(found))


def test_a_video_shorter_than_the_shortest_segment_has_none() -> None:
    assert merge([(0, 0.8)], sure([1]), Merging(smoothing=0, min_length=1)) == []
    assert spans(merge([(0, 0.8)], sure([1]), Merging(smoothing=0, min_length=0.8))) == [(0, 0.8, 1)]


def test_a_video_shorter_than_its_windows_has_a_segment() -> None:
    assert spans(merge([(0, 0.4)], sure([1]), Merging())) == [(0, 0.4, 1)]


def test_every_length_can_be_divided() -> None:
    for until in np.arange(2.0, 20.0, 0.7):
        found = merge([(0.0, 1.0), (0.5, until)], sure([0, 1]), Merging(smoothing=0, min_length=1.9))
        assert (found[0].start, found[-1].end) == (0, until)


def test_nothing_gives_nothing() -> None:
    assert merge([], np.zeros((0, 3)), SOON) == []


def test_time_without_windows_belongs_to_no_segment() -> None:
    times = [(0.0, 1.0), (1.0, 2.0), (3.0, 4.0), (4.5, 4.6)]
    assert spans(merge(times, sure([1, 1, 1, 1]), SOON)) == [(0, 2, 1), (3, 4, 1)]


def test_the_background_is_left_out() -> None:
    found = merge(windows(1, 1, 4), sure([0, 2, 2, 1]), Merging(smoothing=0.1, min_length=0.25, left_out=2))
    assert spans(found) == [(0, 1, 0), (3, 4, 1)]


def test_a_long_action_is_one_segment() -> None:
    found = merge(windows(1, 0.5, 60), sure([1] * 119), SOON)
    assert spans(found) == [(0, 60, 1)]
    assert found[0].score == pytest.approx(0.9, abs=0.02)


def test_an_action_done_twice_is_two_segments() -> None:
    """The window between two is unsure, as one that shows the end of an action and the beginning of the next is."""
    times = windows(1, 0.5, 2)
    chances = np.array([[0.95, 0.05, 0.0], [0.1, 0.3, 0.6], [0.95, 0.05, 0.0]])
    assert spans(merge(times, chances, SOON)) == [(0, 1, 0), (1, 2, 0)]


def test_the_window_that_fits_decides() -> None:
    """A window that contains an action and its surroundings says less about it than one that fits."""
    times = [(0.0, 3.0), (0.0, 1.0), (1.0, 2.0), (2.0, 3.0)]
    chances = np.array([[0.6, 0.2, 0.2], [0.05, 0.9, 0.05], [0.05, 0.05, 0.9], [0.05, 0.9, 0.05]])
    found = merge(times, chances, SOON)
    assert spans(found) == [(0, 1, 1), (1, 2, 2), (2, 3, 1)]


def test_a_wrong_window_that_is_sure_does_not_outvote_the_others() -> None:
    chances = np.array([[1.0, 0.0]] * 3 + [[0.0, 1.0]] + [[1.0, 0.0]] * 3)
    assert spans(merge(windows(1, 0.125, 1.75), chances, Merging(smoothing=0.2, min_length=0.5))) == [(0, 1.75, 0)]


def test_many_windows_of_tiny_stride_are_merged() -> None:
    times = windows(10, 0.02, 20.2)
    found = merge(times, sure([0] * 256 + [1] * 255), Merging(smoothing=0.1, min_length=2))
    assert [one.index for one in found] == [0, 1]


def test_lengths_that_differ_by_far_make_the_grid_coarser() -> None:
    """With a tenth of the shortest window as step, this would take minutes."""
    times = windows(0.1, 0.1, 25.6) + windows(30, 0.1, 55.5)
    found = merge(times, np.random.default_rng(0).dirichlet(np.full(99, 0.2), 512), Merging())
    assert (found[0].start, found[-1].end) == (0, 55.5)


def test_the_background_class_of_a_model() -> None:
    assert background_class(("a", BACKGROUND), None) == 1
    assert background_class(("a", "b"), None) is None
    assert background_class(("a", "b"), "b") == 1
    with pytest.raises(UnknownLabelError, match=r"background: 'c' is not a label of this model; its labels are a, b$"):
        background_class(("a", "b"), "c")


def expected_right(found: list[Segment], cost: float) -> float:
    return sum((one.end - one.start) * one.score - cost for one in found)


def test_no_division_with_other_limits_is_better() -> None:
    """The search is exact: a limit can only lower what it maximises."""
    times, chances = windows(1, 0.5, 6), np.random.default_rng(3).dirichlet(np.full(3, 0.4), 11)
    values = [expected_right(merge(times, chances, Merging(0.1, shortest)), 0.1) for shortest in (0, 0.5, 1, 2, 3, 6)]
    assert values == sorted(values, reverse=True)
    assert values[0] > values[-1]
