"""η against values computed by hand from the formula."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sefar_serve.reliability import regulation, reliabilities, reliability, softmax


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


@pytest.mark.parametrize(
    ("mean", "deviation", "eta"),
    [
        (1.0, 0.0, 1.0),  # e^1 - e = 0, and the second factor saturates
        (1.0, 0.05, 2 * (sigmoid(1.0) - 0.5)),  # 20 * 0.05 = 1
        (0.5, 0.0, 2 * sigmoid(math.exp(0.5) - math.e)),
        (0.5, 0.5, 2 * sigmoid(math.exp(0.5) - math.e) * 2 * (sigmoid(0.1) - 0.5)),
    ],
)
def test_by_hand(mean: float, deviation: float, eta: float) -> None:
    assert regulation(mean, deviation) == pytest.approx(eta, rel=1e-6)


@given(st.floats(0, 1), st.floats(0, 0.5))
def test_is_in_range_and_falls_with_uncertainty(mean: float, deviation: float) -> None:
    eta = regulation(mean, deviation)
    assert 0 < eta <= 1
    assert regulation(mean, deviation + 0.1) <= eta
    assert regulation(max(mean - 0.1, 0), deviation) <= eta


def test_reads_the_samples_of_the_most_probable_class() -> None:
    logits = np.log(np.array([[0.9, 0.1], [0.5, 0.5]], np.float32))
    assert reliability(logits) == pytest.approx(regulation(0.7, 0.2), rel=1e-5)


def test_softmax_survives_large_logits() -> None:
    assert softmax(np.array([1000.0, 1000.0], np.float32)).tolist() == [0.5, 0.5]


def test_many_clips_give_the_same_values_as_each_alone() -> None:
    logits = np.random.default_rng(0).normal(0, 3, (7, 10, 4)).astype(np.float32)
    assert reliabilities(logits).tolist() == [reliability(clip) for clip in logits]
    assert reliabilities(logits[:0]).shape == (0,)
