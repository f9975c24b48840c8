"""Pseudo-labels: the teacher's predictions for unlabelled clips, and the weight of each.

Pure functions of probabilities. SeFAR weights every pseudo-label by its Adaptive-Regulation coefficient η (paper,
section 3.3). The other methods keep pseudo-labels above a threshold.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..model import Head


class PseudoLabels(NamedTuple):
    """The teacher's predictions for B clips."""

    probabilities: Tensor
    """p̄, (B,K): the mean prediction."""
    label: Tensor
    """c = argmax p̄, int64 (B,)."""
    mean: Tensor
    """m = p̄_c, (B,)."""
    deviation: Tensor
    """s, (B,): standard deviation of class c over the samples; 0 for a single prediction."""


def monte_carlo(head: Head, tokens_BED: Tensor, samples: int) -> Tensor:
    """T dropout predictions of the head from one backbone pass, probabilities (B,T,K).

    Only the head has dropout, so T passes of the whole teacher have the same distribution. The embedding is computed
    once, and its T·B masked copies go through the classifier together.
    """
    embedding = head.embed(tokens_BED)
    copies = embedding[:, None].expand(-1, samples, -1)
    dropped = F.dropout(copies, head.dropout.p, training=True)
    return head.classifier(dropped).float().softmax(dim=-1)


def pseudo_labels(probabilities_BTK: Tensor) -> PseudoLabels:
    """Average the T samples; return the most probable class and the spread of its probability.

    The standard deviation is the population's (divided by T), as in `sefar_serve.reliability`.
    """
    mean_BK = probabilities_BTK.mean(dim=1)
    mean, label = mean_BK.max(dim=1)
    of_label = probabilities_BTK.gather(2, label[:, None, None].expand(-1, probabilities_BTK.shape[1], 1)).squeeze(2)
    return PseudoLabels(mean_BK, label, mean, of_label.std(dim=1, correction=0))


def regulation(mean: Tensor, deviation: Tensor) -> Tensor:
    """η = 2·σ(e^m − e) · 2·(σ(1/(20·s + 1e-9)) − 1/2), in (0, 1], elementwise.

    Close to 1 if the teacher is confident and consistent, small if it is not.
    """
    sure = 2 * torch.sigmoid(mean.exp() - math.e)
    steady = 2 * (torch.sigmoid(1 / (20 * deviation + 1e-9)) - 0.5)
    return sure * steady


def class_thresholds(confident_K: Tensor, unseen: int, threshold: float) -> Tensor:
    """FlexMatch's threshold for each class; lower for classes that the model is still learning.

    β_c = σ_c / max(max σ, unseen), threshold · β_c / (2 − β_c) (arXiv 2110.08263, equations 7, 11 and 12).

    Args:
        confident_K: σ_c, number of unlabelled clips whose last confident prediction is class c.
        unseen: number of unlabelled clips without a confident prediction so far.
        threshold: the highest threshold.

    Returns:
        Thresholds (K,) in [0, threshold].
    """
    beta = confident_K / confident_K.max().clamp_min(max(unseen, 1))
    return threshold * beta / (2 - beta)
