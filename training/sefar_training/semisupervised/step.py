"""One training step of a classifier: supervised, SeFAR, and the methods that it is compared with.

All methods share the data, the views, the model and this step. They differ in what labels the unlabelled clips (the
student or its moving average), in the weight of a pseudo-label, and in whether clips are mixed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from ..config import Method, Perturbation, SemiConfig
from ..data import InputViews
from ..loop import Batch, Metrics
from ..model import FrameNormalizer, PoseNormalizer, SefarModel
from .losses import mixing_loss, pseudo_label_loss, ramp
from .mixing import draw_mix, mix_targets, mix_tokens
from .perturbation import perturb
from .pseudo import PseudoLabels, class_thresholds, monte_carlo, pseudo_labels, regulation

FIRST_WEIGHTS = 0.01
"""Largest share of a moving average that may come from the weights it started with, at the end of a run."""


def capped_decay(decay: float, steps: int) -> float:
    """Lower the decay of a moving average so that a run is long enough to forget the weights it started with.

    After n steps with the decay d these have the weight d^n, so d is at most `FIRST_WEIGHTS` ^ (1/n). With 0.9999 this
    matters for fewer than 46,000 steps; without it, half of the average of a short run is the model after its warm-up.

    Args:
        decay: as in the recipe.
        steps: n, steps from the start of averaging to the end of the run.
    """
    return min(decay, FIRST_WEIGHTS ** (1 / max(steps, 1)))


@dataclass(frozen=True)
class Rules:
    """What distinguishes a method.

    Attributes:
        teacher: whether pseudo-labels come from the moving average of the student; otherwise from the student.
        weighting: ``regulation`` (η of Monte-Carlo samples), ``threshold``, or ``class-thresholds``.
        mixes: whether clips are mixed.
    """

    teacher: bool
    weighting: str
    mixes: bool


RULES: dict[Method, Rules] = {
    "fixmatch": Rules(teacher=False, weighting="threshold", mixes=False),
    "flexmatch": Rules(teacher=False, weighting="class-thresholds", mixes=False),
    "svformer": Rules(teacher=True, weighting="threshold", mixes=True),
    "sefar": Rules(teacher=True, weighting="regulation", mixes=True),
}


class ClassificationStep(nn.Module):
    """One loss from labelled clips and, if the method uses them, unlabelled clips.

    Every method keeps a moving average of the student, so that all can be evaluated with and without it.

    Args:
        student: the model to train.
        normalizer: turns decoded frames or joints into the model's input.
        method: the training method.
        config: weights, thresholds and so on.
        perturbation: temporal perturbation of the strong view.
        epochs: number of epochs of the run.
        unlabelled: number of unlabelled clips.
        steps: optimiser steps of the run; None does not cap the decay of the moving average.
        average_from: optimiser steps after which the moving average stops being a plain copy.
        label_smoothing: label smoothing of the supervised loss.
        views: what is done to normalised inputs.
    """

    def __init__(
        self,
        student: SefarModel,
        normalizer: FrameNormalizer | PoseNormalizer,
        method: Method,
        config: SemiConfig,
        perturbation: Perturbation,
        epochs: int,
        unlabelled: int,
        steps: int | None = None,
        average_from: int = 0,
        label_smoothing: float = 0.0,
        views: InputViews = InputViews(),  # noqa: B008  (frozen)
    ) -> None:
        super().__init__()
        self.student = student
        self.normalizer = normalizer
        self.rules = RULES.get(method)
        self.config = config
        self.perturbation: Perturbation = perturbation
        self.epochs = epochs
        self.label_smoothing = label_smoothing
        self.views = views
        decay = config.teacher_decay if steps is None else capped_decay(config.teacher_decay, steps - average_from)
        self.average = ModelEmaV3(
            student, decay=decay, use_warmup=config.teacher_warmup, update_after_step=average_from
        )
        self.average.requires_grad_(False)
        if self.rules is not None and self.rules.weighting == "class-thresholds":
            # Class of the last confident prediction for each unlabelled clip, -1 for none yet.
            self.register_buffer("taken_for", torch.full((unlabelled,), -1))

    def forward(self, batch: Batch, epoch: int) -> tuple[Tensor, Metrics]:
        """Loss of one batch: L_sup and, from `config.start_epoch` on, ξ·(γ1·L_un + γ2·L_mix).

        Args:
            batch: ``inputs`` (B,…) and ``label`` (B,) of labelled clips; ``weak`` and ``strong`` (U,…), ``clip`` (U,)
                and ``hidden_label`` (U,) of unlabelled ones. Inputs are uint8 (F,H,W,3) or float32 (F,P,J,4) per clip.
            epoch: counted from 0.
        """
        labelled = self.views.labelled(self.normalizer(batch["inputs"]))
        rules = self.rules
        if rules is None or epoch < self.config.start_epoch:
            return self._supervised(self.student(labelled).logits.float(), batch["label"])

        answer, weight = self._pseudo_labels(batch, rules)
        perturbed = perturb(batch["strong"], self.student.backbone.sample_frames, self.perturbation)
        strong = self.views.strong(self.normalizer(perturbed))
        b, u = len(labelled), len(strong)
        backbone = self.student.backbone
        # One pass for all clips of the student: larger batches are faster, and mixed clips skip the stem.
        cls_BED, x_BFND = backbone.embed(torch.cat([labelled, strong]))
        if rules.mixes:
            mix = draw_mix(u, cls_BED.shape[1], x_BFND.shape[2], self.config.mix_alpha, x_BFND.device)
            mixed = mix_tokens(x_BFND[b:], mix, backbone.groups.element_of_frame)
            cls_BED, x_BFND = torch.cat([cls_BED, cls_BED[b:]]), torch.cat([x_BFND, mixed])
        logits = self.student.head(backbone.encode(cls_BED, x_BFND))[1].float()

        loss, metrics = self._supervised(logits[:b], batch["label"])
        loss_un = pseudo_label_loss(logits[b : b + u], answer.label, weight)
        extra = self.config.pseudo_weight * loss_un
        metrics |= {"loss_un": loss_un.detach(), "weight": weight.mean(), **_known(answer, weight, batch)}
        if rules.mixes:
            loss_mix = mixing_loss(logits[b + u :], mix_targets(answer.probabilities, mix), mix_targets(weight, mix))
            extra = extra + self.config.mix_weight * loss_mix
            metrics["loss_mix"] = loss_mix.detach()
        xi = ramp(epoch, self.config.start_epoch, self.epochs) if self.config.ramp else 1.0
        return loss + xi * extra, metrics

    def updated(self, steps: int) -> None:
        """Update the moving average after the optimiser's step number `steps`, counted from 1."""
        self.average.update(self.student, step=steps)

    def _supervised(self, logits_BK: Tensor, label: Tensor) -> tuple[Tensor, Metrics]:
        loss = F.cross_entropy(logits_BK, label, label_smoothing=self.label_smoothing)
        accuracy = (logits_BK.argmax(dim=1) == label).float().mean()
        return loss, {"loss_sup": loss.detach(), "accuracy": accuracy}

    @torch.no_grad()
    def _pseudo_labels(self, batch: Batch, rules: Rules) -> tuple[PseudoLabels, Tensor]:
        """Predictions for the weak views, and the weight (U,) of each."""
        labeller: SefarModel = self.average.module if rules.teacher else self.student
        was_training = labeller.training
        labeller.eval()  # no batch statistics or stochastic depth in pseudo-labels
        tokens = labeller.backbone(self.views.weak(self.normalizer(batch["weak"])))
        if rules.weighting == "regulation":
            answer = pseudo_labels(monte_carlo(labeller.head, tokens, self.config.mc_samples))
        else:
            answer = pseudo_labels(labeller.head(tokens)[1].float().softmax(dim=1)[:, None])
        labeller.train(was_training)
        # Older torch versions cache casts made without gradients; a student that labels would then train on those.
        torch.clear_autocast_cache()
        return answer, self._weights(answer, batch["clip"], rules)

    def _weights(self, answer: PseudoLabels, clip: Tensor, rules: Rules) -> Tensor:
        if rules.weighting == "regulation":
            return regulation(answer.mean, answer.deviation) if self.config.regulation else torch.ones_like(answer.mean)
        if rules.weighting == "threshold":
            return (answer.mean >= self.config.threshold).float()
        # A clip keeps the class of its last confident prediction. Processes exchange the predictions of the step.
        sure = answer.mean >= self.config.threshold
        news = _everywhere(torch.stack([clip, torch.where(sure, answer.label, self.taken_for[clip])]))
        self.taken_for[news[0]] = news[1]
        seen = self.taken_for[self.taken_for >= 0]
        confident = torch.bincount(seen, minlength=answer.probabilities.shape[1]).float()
        limits = class_thresholds(confident, len(self.taken_for) - len(seen), self.config.threshold)
        return (answer.mean >= limits[answer.label]).float()


def _everywhere(values: Tensor) -> Tensor:
    """Concatenate the columns (.., U) of all processes."""
    if not torch.distributed.is_initialized():
        return values
    parts = [torch.empty_like(values) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(parts, values)
    return torch.cat(parts, dim=-1)


def _known(answer: PseudoLabels, weight: Tensor, batch: Batch) -> Metrics:
    """How often pseudo-labels are right, plain and weighted, over the clips whose label is known."""
    known = batch["hidden_label"] >= 0
    if not known.any():
        return {}
    right = (answer.label == batch["hidden_label"])[known].float()
    counted = weight[known]
    figures = {"pseudo_right": right.mean()}
    if counted.sum() > 0:
        figures["pseudo_right_weighted"] = (right * counted).sum() / counted.sum()
    return figures
