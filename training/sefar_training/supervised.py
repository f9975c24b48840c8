"""Supervised classification: the step on labelled clips."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from .loop import Batch, Metrics
from .model import FrameNormalizer, SefarModel


class SupervisedStep:
    """Cross-entropy on the weak view of labelled clips (METHOD section 4, L_sup).

    Args:
        model: the model trained.
        normalizer: uint8 frames to the model's input.
        label_smoothing: share of the target spread over all classes.
    """

    def __init__(self, model: SefarModel, normalizer: FrameNormalizer, label_smoothing: float = 0.0) -> None:
        self.model = model
        self.normalizer = normalizer
        self.label_smoothing = label_smoothing

    def __call__(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """Loss of one batch and its accuracy on [0, 1]."""
        logits = self.model(self.normalizer(batch["frames"])).logits.float()
        loss = F.cross_entropy(logits, batch["label"], label_smoothing=self.label_smoothing)
        accuracy = (logits.argmax(dim=1) == batch["label"]).float().mean().item()
        return loss, {"accuracy": accuracy}
