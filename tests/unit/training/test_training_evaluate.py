from __future__ import annotations

import numpy as np
import pytest

from sefar_training.data import ClassTable
from sefar_training.evaluate import EvaluationError, score

CLASSES = ClassTable(
    labels=("roll forward", "roll backward", "leap", "turn", "jump", "kick"),
    attributes=(
        {"direction": "forward", "event": "FX"},
        {"direction": "backward", "event": "FX"},
        {"event": "FX"},
        {"event": "BB"},
        {"event": "BB"},
        {"event": "BB"},
    ),
    opposites=(1, 0, None, None, None, None),
)


def test_every_figure_by_hand() -> None:
    logits = np.array(
        [
            [3, 2, 0, 0, 0, 0],  # forward, right
            [1, 2, 0, 0, 0, 5],  # forward, taken for a kick; its opposite above it
            [2, 3, 0, 0, 0, 9],  # backward, taken for a kick; above its opposite
            [0, 0, 9, 1, 1, 1],  # leap, right
            [9, 8, 7, 0, 6, 5],  # turn, sixth of six
        ],
        np.float32,
    )
    report = score(logits, np.array([0, 0, 1, 2, 3]), CLASSES)
    assert report.clips == 5
    assert report.top1 == pytest.approx(2 / 5)
    assert report.top5 == pytest.approx(4 / 5)
    assert report.mean_class == pytest.approx((0.5 + 0 + 1 + 0) / 4)
    assert report.opposite_pairs == pytest.approx(2 / 3)
    assert report.opposite_clips == 3
    assert report.attributes == {"direction": pytest.approx(1 / 3), "event": pytest.approx(2 / 5)}
    assert report.per_class == {"roll forward": 0.5, "roll backward": 0, "leap": 1, "turn": 0}


def test_equal_scores_are_no_proof_of_direction() -> None:
    logits = np.zeros((1, 6), np.float32)
    assert score(logits, np.array([0]), CLASSES).opposite_pairs == 0


def test_without_opposites_there_is_no_pair_accuracy() -> None:
    report = score(np.eye(3, dtype=np.float32), np.arange(3), ClassTable(("a", "b", "c")))
    assert report.top1 == 1
    assert report.opposite_pairs is None
    assert report.attributes == {}


def test_foreign_labels_and_empty_lists_are_named() -> None:
    with pytest.raises(EvaluationError, match="label 6, but the model knows 6"):
        score(np.zeros((1, 6), np.float32), np.array([6]), CLASSES)
    with pytest.raises(EvaluationError, match="no clip"):
        score(np.zeros((0, 6), np.float32), np.array([], np.int64), CLASSES)
