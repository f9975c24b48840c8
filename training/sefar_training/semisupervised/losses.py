"""The losses on unlabelled clips and how they grow (METHOD section 4)."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor


def pseudo_label_loss(logits_BK: Tensor, label: Tensor, weight: Tensor) -> Tensor:
    """L_un: mean over the batch of weight · cross-entropy against the pseudo-label; weights (B,)."""
    return (weight * F.cross_entropy(logits_BK, label, reduction="none")).mean()


def mixing_loss(logits_BK: Tensor, target_BK: Tensor, weight: Tensor) -> Tensor:
    """L_mix: mean over the batch of weight · ‖softmax(logits) − target‖², probabilities against probabilities."""
    return (weight * (logits_BK.softmax(dim=1) - target_BK).square().sum(dim=1)).mean()


def ramp(epoch: int, start: int, epochs: int) -> float:
    """ξ = sin(π/2 · (epoch + 1 − start)/(epochs − start)): rising from `start` to 1 in the last epoch.

    Args:
        epoch: counted from 0, at least `start`.
        start: first epoch with unlabelled clips.
        epochs: of the whole run, more than `start`.
    """
    return math.sin(math.pi / 2 * (epoch + 1 - start) / (epochs - start))
