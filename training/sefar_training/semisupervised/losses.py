"""The losses on unlabelled clips, and the ramp of their weight."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor


def pseudo_label_loss(logits_BK: Tensor, label: Tensor, weight: Tensor) -> Tensor:
    """L_un: weight · cross-entropy with the pseudo-label, averaged over the batch; label and weight (B,)."""
    return (weight * F.cross_entropy(logits_BK, label, reduction="none")).mean()


def mixing_loss(logits_BK: Tensor, target_BK: Tensor, weight: Tensor) -> Tensor:
    """L_mix: weight · ‖softmax(logits) − target‖², averaged over the batch; targets are probabilities."""
    return (weight * (logits_BK.softmax(dim=1) - target_BK).square().sum(dim=1)).mean()


def ramp(epoch: int, start: int, epochs: int) -> float:
    """ξ = sin(π/2 · (epoch + 1 − start)/(epochs − start)), which rises from epoch `start` to 1 in the last epoch.

    Args:
        epoch: counted from 0, at least `start`.
        start: first epoch with unlabelled clips.
        epochs: number of epochs of the run, more than `start`.
    """
    return math.sin(math.pi / 2 * (epoch + 1 - start) / (epochs - start))
