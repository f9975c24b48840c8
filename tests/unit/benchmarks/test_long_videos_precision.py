"""Average precision of temporal detections, on cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.long_videos.average_precision import (
    Detection,
    Truth,
    average_precision,
    f1,
    mean_average_precision,
    suppressed,
    tiou,
)

ONE = [Truth("v", 0, 10, "a")]


def found(start: float, end: float, score: float, label: str = "a", video: str = "v") -> Detection:
    return Detection(video, start, end, label, score)


def test_tiou() -> None:
    others = np.array([[0.0, 10.0], [5.0, 15.0], [10.0, 20.0], [2.0, 4.0]])
    assert tiou(0, 10, others).tolist() == pytest.approx([1, 5 / 15, 0, 0.2])


def test_a_right_detection() -> None:
    assert average_precision(ONE, [found(0, 5, 0.1)], 0.5) == 1
    assert average_precision(ONE, [found(0, 4.9, 0.1)], 0.5) == 0
    assert average_precision(ONE, [found(0, 10, 1.0, video="w")], 0.5) == 0


def test_nothing_found() -> None:
    assert average_precision(ONE, [], 0.5) == 0
    assert f1(ONE, [], 0.5) == 0


def test_a_wrong_detection_costs_by_its_rank() -> None:
    assert average_precision(ONE, [found(0, 10, 0.9), found(20, 30, 0.8)], 0.5) == 1
    assert average_precision(ONE, [found(0, 10, 0.8), found(20, 30, 0.9)], 0.5) == 0.5


def test_a_true_segment_is_found_once() -> None:
    truth = [*ONE, Truth("v", 20, 30, "a")]
    twice = [found(0, 10, 0.9), found(0, 9, 0.8), found(20, 30, 0.7)]
    # Precision is 1, 1/2, 2/3 and recall 1/2, 1/2, 1.
    assert average_precision(truth, twice, 0.5) == pytest.approx((1 + 2 / 3) / 2)


def test_precision_is_made_monotonic() -> None:
    truth = [*ONE, Truth("v", 20, 30, "a"), Truth("v", 40, 50, "a")]
    some = [found(60, 70, 0.9), found(0, 10, 0.8), found(20, 30, 0.7)]
    # Precision is 0, 1/2, 2/3, so 2/3 at both recalls; the third segment is never found.
    assert average_precision(truth, some, 0.5) == pytest.approx((2 / 3 + 2 / 3) / 3)


def test_a_taken_segment_leaves_the_next_best() -> None:
    truth = [Truth("v", 0, 10, "a"), Truth("v", 4, 14, "a")]
    both = [found(1, 11, 0.9), found(1, 11, 0.8)]
    assert average_precision(truth, both, 0.5) == 1
    assert average_precision(truth, both, 0.7) == 0.5


def test_the_mean_is_over_true_classes() -> None:
    truth = [*ONE, Truth("v", 10, 20, "b")]
    all_ = [found(0, 10, 0.5), found(0, 10, 0.9, label="c"), found(10, 20, 0.5, label="a")]
    assert mean_average_precision(truth, all_, 0.5) == 0.5
    with pytest.raises(ValueError, match="no true segments"):
        mean_average_precision([], all_, 0.5)


def test_f1_counts_every_detection() -> None:
    truth = [*ONE, Truth("v", 10, 20, "b")]
    all_ = [found(0, 10, 0.1), found(0, 10, 0.9, label="c"), found(10, 20, 0.9, label="a")]
    assert f1(truth, all_, 0.5) == pytest.approx(2 * (1 / 3) * (1 / 2) / (1 / 3 + 1 / 2))


def test_suppression_keeps_the_best_of_what_overlaps() -> None:
    all_ = [
        found(0, 10, 0.5),
        found(1, 11, 0.9),
        found(1, 11, 0.4, "b"),
        found(1, 11, 0.3, video="w"),
        found(9, 19, 0.2),
    ]
    assert [one.score for one in suppressed(all_)] == [0.9, 0.4, 0.3, 0.2]
