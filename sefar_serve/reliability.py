"""How reliable a prediction is: SeFAR's Adaptive-Regulation coefficient η (paper, section 3.3), and familiarity."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

UNFAMILIAR_BELOW = 0.01
"""Default familiarity below which a clip is marked as unlike what its model knows."""


def is_unfamiliar(familiarity: float | None, below: float) -> bool:
    """Whether a clip is unlike what its model knows.

    Args:
        familiarity: in [0, 1]; None if the model does not measure it.
        below: threshold in [0, 1]; 0 marks no clip.
    """
    return familiarity is not None and familiarity < below


def top_classes(logits: NDArray[np.float32], top_k: int) -> list[tuple[int, float]]:
    """The most probable classes.

    Args:
        logits: float32 (K,).
        top_k: number of classes, capped at K.

    Returns:
        (class number, softmax probability) of each, best first; ties go to the lower number.
    """
    scores = softmax(logits)
    order = np.argsort(-scores, kind="stable")[:top_k]
    return [(int(i), float(scores[i])) for i in order]


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Softmax over the last axis, computed in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    exponent = np.exp(shifted)
    return np.asarray(exponent / exponent.sum(axis=-1, keepdims=True))


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-x)))


def regulation(mean: ArrayLike, deviation: ArrayLike) -> NDArray[np.float64]:
    """η: near 1 if the samples are confident and agree with each other, small if not.

    η = 2·σ(e^m − e) · 2·(σ(1 / (20·s + 1e-9)) − 1/2)

    Args:
        mean: m in [0, 1], the mean probability of the most probable class over the samples; of any shape.
        deviation: s >= 0, the standard deviation of that probability, in the same shape.

    Returns:
        η in (0, 1], in the same shape.
    """
    m, s = np.asarray(mean, np.float64), np.asarray(deviation, np.float64)
    sure = 2 * _sigmoid(np.exp(m) - np.e)
    steady = 2 * (_sigmoid(1 / (20 * s + 1e-9)) - 0.5)
    return np.asarray(sure * steady)


def reliabilities(mc_logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """η of many clips from their Monte-Carlo head samples.

    Args:
        mc_logits: float32 (N, T, K), T samples of each clip's logits.

    Returns:
        η in (0, 1], (N,).
    """
    probabilities = softmax(mc_logits)
    best = probabilities.mean(axis=1).argmax(axis=1)
    of_best = np.take_along_axis(probabilities, best[:, None, None], axis=2)[:, :, 0]
    return regulation(of_best.mean(axis=1), of_best.std(axis=1))


def reliability(mc_logits: NDArray[np.float32]) -> float:
    """η of one clip from its Monte-Carlo head samples.

    Args:
        mc_logits: float32 (T, K), T samples of the logits.

    Returns:
        η in (0, 1].
    """
    return float(reliabilities(mc_logits[None])[0])
