"""Calibration of probabilities by one number: the temperature that all class scores are divided by."""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from sefar_serve.reliability import softmax

from ..model import SefarModel

RANGE = (0.1, 10.0)
"""Lowest and highest temperature."""


def fit_temperature(logits: NDArray[np.floating], labels: NDArray[np.int64]) -> float:
    """The temperature T at which softmax(logits / T) predicts held-out clips best.

    It minimises the negative log-likelihood of all clips plus (log T)²/2. This prior weighs as little as one
    clip: it only keeps T finite where a few clips are all right.

    Args:
        logits: (N,K).
        labels: (N,).
    """
    rows = np.arange(len(labels))

    def loss(log_t: float) -> float:
        found = softmax(np.asarray(logits, np.float64) / np.exp(log_t))  # type: ignore[arg-type]
        return float(-np.log(np.maximum(found[rows, labels], 1e-300)).sum() + log_t**2 / 2)

    best = minimize_scalar(loss, bounds=tuple(np.log(RANGE)), method="bounded")
    return float(np.exp(best.x))


def with_temperature(model: SefarModel, temperature: float) -> SefarModel:
    """A copy whose classifier is divided by a temperature. Which class is the most probable does not change."""
    scaled = copy.deepcopy(model)
    with torch.no_grad():
        scaled.head.classifier.weight /= temperature
        scaled.head.classifier.bias /= temperature
    return scaled
