"""How far an answer can be trusted: SeFAR's Adaptive-Regulation coefficient (paper, section 3.3)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Softmax over the last axis, computed in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    exponent = np.exp(shifted)
    return np.asarray(exponent / exponent.sum(axis=-1, keepdims=True))


def _sigmoid(x: float) -> float:
    return float(1 / (1 + np.exp(-x)))


def regulation(mean: float, deviation: float) -> float:
    """η for one clip: near 1 when the samples are sure and steady, small when unsure or wavering.

    η = 2·σ(e^m − e) · 2·(σ(1 / (20·s + 1e-9)) − 1/2)

    Args:
        mean: m in [0, 1], the mean probability of the most probable class over the samples.
        deviation: s >= 0, the standard deviation of that probability.

    Returns:
        η in (0, 1].
    """
    sure = 2 * _sigmoid(np.exp(mean) - np.e)
    steady = 2 * (_sigmoid(1 / (20 * deviation + 1e-9)) - 0.5)
    return sure * steady


def reliability(mc_logits: NDArray[np.float32]) -> float:
    """η of one clip from its Monte-Carlo head samples.

    Args:
        mc_logits: float32 (T, K), T samples of the logits.

    Returns:
        η in (0, 1].
    """
    probabilities = softmax(mc_logits)
    mean = probabilities.mean(axis=0)
    best = int(mean.argmax())
    return regulation(float(mean[best]), float(probabilities[:, best].std()))
