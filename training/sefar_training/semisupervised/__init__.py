"""Learning from unlabelled clips: perturbation, pseudo-labels, regulation, mixing, and the training step.

The method is described in docs/explanation/method.md.
"""

from .losses import mixing_loss, pseudo_label_loss, ramp
from .mixing import Mix, draw_mix, mix_targets, mix_tokens
from .perturbation import frame_order, perturb
from .pseudo import PseudoLabels, class_thresholds, monte_carlo, pseudo_labels, regulation
from .step import RULES, ClassificationStep, capped_decay

__all__ = [
    "RULES",
    "ClassificationStep",
    "Mix",
    "PseudoLabels",
    "capped_decay",
    "class_thresholds",
    "draw_mix",
    "frame_order",
    "mix_targets",
    "mix_tokens",
    "mixing_loss",
    "monte_carlo",
    "perturb",
    "pseudo_label_loss",
    "pseudo_labels",
    "ramp",
    "regulation",
]
