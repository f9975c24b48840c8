"""Unlabelled clips: two spatial views of the same frames, one for the teacher and one for the student."""

from __future__ import annotations

import numpy as np
import torch
from torch.utils.data import Dataset

from sefar_serve.sampling import Sampling

from .clips import FrameStore, Sample
from .views import StrongView


class UnlabelledClips(Dataset[Sample]):
    """Clips keyed by (pass, index), like `TrainingClips`.

    Each sample has ``weak`` and ``strong``, uint8 (F,size,size,3) in element order, cropped independently from the same
    frames; the number ``clip``; and ``hidden_label``, the class in the list. Nothing is learnt from the hidden label;
    it only measures how often pseudo-labels are right.

    Args:
        store: the decoded clips.
        sampling: temporal elements; frames are drawn at random inside their segments.
        view: the strong view, which includes the weak one.
        seed: seed of all draws.
    """

    def __init__(self, store: FrameStore, sampling: Sampling, view: StrongView, seed: int) -> None:
        self.store = store
        self.sampling = sampling
        self.view = view
        self.seed = seed

    def __len__(self) -> int:
        return len(self.store.entries)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        which_pass, wanted = key
        # The leading 1 keeps these draws apart from those of a labelled clip with the same numbers.
        rng = np.random.default_rng((1, self.seed, which_pass, wanted))
        index, _, frames = self.store.sample(wanted, self.sampling, rng)
        return {
            "weak": torch.from_numpy(self.view.weak(frames, rng)),
            "strong": torch.from_numpy(self.view(frames, rng)),
            "clip": index,
            "hidden_label": self.store.entries[index].label,
        }
