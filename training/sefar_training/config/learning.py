"""The part of a recipe about learning: the optimiser, and what the methods need."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from .base import Rate, Strict

Method = Literal["linear", "supervised", "fixmatch", "flexmatch", "svformer", "sefar"]
"""Training methods; all except ``linear`` and ``supervised`` use unlabelled clips."""


WITHOUT_UNLABELLED = ("linear", "supervised")
"""Methods that learn from labelled clips only."""


Perturbation = Literal["none", "moderate", "shuffle", "reverse-all", "channel-flip"]
"""Temporal perturbation of the strong view; see `sefar_training.semisupervised.frame_order`."""


class OptimConfig(Strict):
    """Optimiser, learning rate and length of a run.

    Attributes:
        epochs: number of epochs. An epoch is one pass over the unlabelled clips if the method uses them, else over the
            labelled clips.
        steps_per_epoch: length of an epoch in steps; None for one pass. Shorter lists are repeated in another order,
            so that methods can be compared at the same number of steps.
        batch_size: labelled clips per step, over all processes.
        accumulate: parts that a batch is processed in, one after another, to save memory.
        optimizer: ``adamw``, or ``sgd`` with plain momentum as in the paper.
        momentum: momentum of ``sgd``.
        lr: highest learning rate.
        weight_decay: decay of weight matrices; biases, norms and embeddings have none.
        warmup_epochs: epochs of linear warm-up; may be fractional.
        schedule: ``cosine``, or ``steps``, which multiplies the learning rate by 0.1 at each of `milestones` (the
            paper: epochs 25 and 28 of 30).
        milestones: epochs of ``steps``, ascending.
        final_lr: learning rate at the end of ``cosine``, as a share of `lr`.
        clip_grad: largest gradient norm; None does not clip.
        precision: ``bf16`` autocast or ``fp32``.
        patience: early stopping: epochs without a better top-1 accuracy on the val list, after which training stops and
            the weights of the best epoch are kept. With unlabelled clips, counting begins when they do. None never
            stops early.
    """

    epochs: int = Field(ge=1)
    steps_per_epoch: int | None = Field(default=None, ge=1)
    batch_size: int = Field(default=32, ge=1)
    accumulate: int = Field(default=1, ge=1)
    optimizer: Literal["adamw", "sgd"] = "adamw"
    momentum: Rate = 0.9
    lr: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.05, ge=0)
    warmup_epochs: float = Field(default=1.0, ge=0)
    schedule: Literal["cosine", "steps"] = "cosine"
    milestones: tuple[int, ...] = ()
    final_lr: float = Field(default=0.01, ge=0, le=1)
    clip_grad: float | None = Field(default=1.0, gt=0)
    precision: Literal["bf16", "fp32"] = "bf16"
    patience: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _consistent(self) -> OptimConfig:
        if (self.schedule == "steps") != bool(self.milestones):
            raise ValueError("schedule steps needs milestones, and milestones need schedule: steps")
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"milestones {self.milestones} are not in ascending order")
        return self


class SemiConfig(Strict):
    """How unlabelled clips are used. Each method reads the fields that it needs.

    Attributes:
        batch_size: unlabelled clips per step, over all processes.
        start_epoch: epochs with labelled clips only, before the first pseudo-label (the paper's warm-up).
        ramp: multiply the unlabelled losses by ξ = sin(π/2 · (epoch + 1 − start)/(epochs − start)); if off, ξ is 1.
        pseudo_weight: γ1, weight of the pseudo-label loss.
        mix_weight: γ2, weight of the mixing loss (``svformer``, ``sefar``).
        mix_alpha: the mixing ratio is drawn from Beta(α, α).
        mc_samples: T, Monte-Carlo dropout predictions of the teacher (``sefar``).
        regulation: weight pseudo-labels by η (``sefar``); if off, all weigh 1, as an ablation.
        perturbation: temporal perturbation of the strong view; None for the method's default, which is ``moderate``
            for ``sefar`` and ``none`` for the others.
        threshold: smallest probability of a pseudo-label that is used (``fixmatch``, ``flexmatch``, ``svformer``).
        teacher_decay: highest decay of the exponential moving average of weights. In a run of n steps of averaging it
            is at most 0.01^(1/n): at the end, the weights that it started with make up at most 1 % of it.
        teacher_warmup: limit the decay after n steps to 1 − (n + 1)^(−2/3) (timm's ModelEmaV3), for short runs. If off,
            the average is a copy of the student until `start_epoch`, then uses the full decay.
    """

    batch_size: int = Field(default=32, ge=1)
    start_epoch: int = Field(default=5, ge=0)
    ramp: bool = True
    pseudo_weight: float = Field(default=2.0, ge=0)
    mix_weight: float = Field(default=2.0, ge=0)
    mix_alpha: float = Field(default=10.0, gt=0)
    mc_samples: int = Field(default=10, ge=2)
    regulation: bool = True
    perturbation: Perturbation | None = None
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.95
    teacher_decay: Annotated[float, Field(ge=0, lt=1)] = 0.9999
    teacher_warmup: bool = True


class LinearConfig(Strict):
    """The method ``linear``: logistic regression on features of a frozen backbone.

    Attributes:
        c: weight of the loss against the penalty; ``choose`` takes the best of a small grid in cross-validation of the
            labelled clips, which is noisy with few labels.
        motion: weight of what changes within a clip against what clips differ in; None for 2 with ``rgb``, 1 with
            ``pose``.
        views: for ``rgb``, views of each training clip: the one that is served, then random ones.
        features: for ``rgb``, folder that features are stored in; None for ``.sefar/features`` in `data.root`.
    """

    c: Annotated[float, Field(gt=0)] | Literal["choose"] = 30.0
    motion: Annotated[float, Field(gt=0)] | None = None
    views: int = Field(default=3, ge=1)
    features: Path | None = None


class PretextConfig(Strict):
    """The task ``pretext``: regress the rendered pose of every frame.

    Attributes:
        targets: names of the pose columns to regress; empty for all.
    """

    targets: tuple[str, ...] = ()
