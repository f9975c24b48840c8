"""Measurements on a study's trained models: accuracy, pseudo-labels and η, and sensitivity to frame order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from ..checkpoint import load_checkpoint, read_info
from ..data import EvaluationClips, read_list
from ..evaluation import EvaluationReport
from ..model import FrameNormalizer, SefarModel
from ..run_folder import STUDENT
from ..semisupervised import frame_order, monte_carlo, pseudo_labels, regulation
from .plan import StudyRun


def test_report(run: StudyRun, student: bool = False) -> EvaluationReport:
    """The results on the test list at the end of training, of the moving average or of the student."""
    folder = run.config.out / STUDENT if student else run.checkpoint
    return EvaluationReport.model_validate(read_info(folder).metrics["test"])


@dataclass(frozen=True)
class PseudoLabelled:
    """A model's pseudo-labels for N clips, and whether they are right."""

    probability: NDArray[np.float64]
    deviation: NDArray[np.float64]
    eta: NDArray[np.float64]
    right: NDArray[np.bool_]

    @staticmethod
    def join(parts: Sequence[PseudoLabelled]) -> PseudoLabelled:
        """Concatenate the pseudo-labels of several models."""
        names = ("probability", "deviation", "eta", "right")
        return PseudoLabelled(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


class Probe(NamedTuple):
    """Predictions for clips with reordered frames: shares in [0, 1] of the true class and of its opposite."""

    true: float
    opposite: float


PROBES = ("none", "moderate", "context", "reverse-all", "exchange")
"""Frame orders to test: unchanged; fine elements, context, or both reversed; and fine elements moved by one place, with
the frames inside in order."""


class Prober:
    """Applies a run's trained model to lists of clips, preprocessed as in serving.

    Args:
        run: a finished run.
    """

    def __init__(self, run: StudyRun) -> None:
        self.run = run
        self.model, self.info = load_checkpoint(run.checkpoint)
        self.normalizer = FrameNormalizer(self.info.model.mean, self.info.model.std)

    def clips(self, list_file: Path) -> list[tuple[Tensor, Tensor]]:
        """Load a list as batches of frames uint8 (B,F,H,W,3) and labels (B,)."""
        data, model = self.run.config.data, self.info.model
        entries = read_list(data.root / list_file, data.root, data.remap)
        clips = EvaluationClips(entries, model.sampling, model.resize, model.size)
        return [(batch["inputs"], batch["label"]) for batch in DataLoader(clips, batch_size=64)]

    @torch.inference_mode()
    def pseudo_label(self, clips: Sequence[tuple[Tensor, Tensor]]) -> PseudoLabelled:
        """Pseudo-label clips from T Monte-Carlo predictions each."""
        torch.manual_seed(self.run.seed)
        parts = []
        for frames, label in clips:
            tokens = self.model.backbone(self.normalizer(frames))
            answer = pseudo_labels(monte_carlo(self.model.head, tokens, self.run.config.semi.mc_samples))
            eta = regulation(answer.mean, answer.deviation)
            columns = (answer.mean, answer.deviation, eta)
            parts.append(PseudoLabelled(*(c.double().numpy() for c in columns), (answer.label == label).numpy()))
        return PseudoLabelled.join(parts)

    @torch.inference_mode()
    def probe(self, clips: Sequence[tuple[Tensor, Tensor]]) -> dict[str, Probe]:
        """Predict clips whose class has an opposite, with their frames in each order of `PROBES`."""
        opposite = torch.tensor([-1 if o is None else o for o in self.info.opposites])
        paired = [(frames[opposite[label] >= 0], label[opposite[label] >= 0]) for frames, label in clips]
        answers = {}
        for kind in PROBES:
            order = probe_order(self.info.model.sample_frames, kind)
            true, taken = [], []
            for frames, label in paired:
                if len(label) == 0:  # lists are often sorted by class
                    continue
                predicted = predict(self.model, self.normalizer, frames[:, order])
                true.append(predicted == label)
                taken.append(predicted == opposite[label])
            answers[kind] = Probe(torch.cat(true).float().mean().item(), torch.cat(taken).float().mean().item())
        return answers


def probe_order(sample_frames: tuple[int, ...], kind: str) -> Tensor:
    """The frame numbers (F,) of an order in `PROBES`."""
    fine, context = torch.arange(sum(sample_frames)).tensor_split([sum(sample_frames[:-1])])
    if kind == "context":
        return torch.cat([fine, context.flip(0)])
    if kind == "exchange":
        return torch.cat([fine.roll(sample_frames[0]), context])
    return frame_order(sample_frames, kind)  # type: ignore[arg-type]


def predict(model: SefarModel, normalizer: FrameNormalizer, frames: Tensor) -> Tensor:
    """The most probable class of each clip, (B,)."""
    return model(normalizer(frames)).logits.argmax(dim=1)
