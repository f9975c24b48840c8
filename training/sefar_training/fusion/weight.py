"""The weight of each stream in late fusion: how log-probabilities are mixed, and which mixture predicts best."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

WEIGHTS = tuple(n / 20 for n in range(21))
"""Weights of the pose stream that are tried."""


def log_softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Log-probabilities of scores (..., K)."""
    scores = np.asarray(logits, np.float64)
    return scores - np.logaddexp.reduce(scores, axis=-1, keepdims=True)


def fuse_logits(rgb: NDArray[Any], pose: NDArray[Any], weight: float) -> NDArray[np.float64]:
    """Fuse scores (..., K) of both streams: a weighted mean of their log-probabilities.

    Args:
        rgb: scores of the model of frames.
        pose: scores of the model of joints.
        weight: of the pose stream, in [0, 1].
    """
    return weight * log_softmax(pose) + (1 - weight) * log_softmax(rgb)


def negative_log_likelihood(logits_NK: NDArray[Any], labels_N: NDArray[np.int64]) -> float:
    """Mean negative log-probability of the true classes, in nats."""
    return float(-log_softmax(logits_NK)[np.arange(len(labels_N)), labels_N].mean())


def try_weights(rgb_NK: NDArray[Any], pose_NK: NDArray[Any], labels_N: NDArray[np.int64]) -> dict[float, float]:
    """Try the weights of `WEIGHTS` on a validation list; the one with the lowest value is best.

    Accuracy would be a worse guide: on a few clips it is the same for many weights. The negative log-likelihood is
    convex in the weight, so the grid has one valley, and it counts how sure the answers are.

    Args:
        rgb_NK: scores of the model of frames.
        pose_NK: scores of the model of joints.
        labels_N: true classes.

    Returns:
        The negative log-likelihood of each weight, in order of the weights.
    """
    return {w: negative_log_likelihood(fuse_logits(rgb_NK, pose_NK, w), labels_N) for w in WEIGHTS}
