"""How class tokens of joints begin: with what convolutions over time make of whole poses."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from sefar_serve.sampling import Sampling, sample_indices

from .head import EMBEDDING_DIM

CHANNELS = 32
SLOTS = EMBEDDING_DIM // CHANNELS
DROPOUT = 0.25

FINE = 1 << 10
"""Frames of an imagined clip that is long enough to tell the order of any sample."""


class MotionSummary(nn.Module):
    """What temporal convolutions make of whole poses, as one vector for each element.

    The tokens of a frame are added up to one vector: each joint has its own projection, so that the sum is a projection
    of the whole pose. Two convolutions over three frames follow, across all frames in the order of time, down to 32
    channels. The clip's time is divided into 8 slots, and each frame adds its 32 values to those of its slot, averaged.
    An element's vector has what its own frames add. The sum over elements is thus all of the clip, slot by slot, and a
    linear classifier of it is a linear classifier of every slot.

    Args:
        sampling: the elements, and which moments of a clip their frames show.
        dim: width D of the tokens; the vectors have 8 · 32 values.
    """

    def __init__(self, sampling: Sampling, dim: int) -> None:
        super().__init__()
        in_time = np.argsort(sample_indices(sampling.frames * FINE, sampling), kind="stable")
        slot = np.arange(sampling.frames) * SLOTS // sampling.frames
        place_EFS = np.zeros((sampling.elements, sampling.frames, SLOTS), np.float32)
        place_EFS[sampling.element_of_frame[in_time], np.arange(sampling.frames), slot] = 1
        place_EFS /= np.maximum(place_EFS.sum(axis=(0, 1)), 1)
        self.register_buffer("in_time", torch.from_numpy(in_time), persistent=False)
        self.register_buffer("place_EFS", torch.from_numpy(place_EFS), persistent=False)
        self.layers = nn.Sequential(*_convolution(dim, dim), *_convolution(dim, CHANNELS))

    def forward(self, x_BFND: Tensor) -> Tensor:
        """Summarise space tokens (B,F,N,D) in element order as (B,E,256)."""
        # Tokens of different joints are unrelated: over √N instead of N, their sum keeps their size.
        poses_BFD = x_BFND.sum(dim=2) / x_BFND.shape[2] ** 0.5
        found_BCF = self.layers(poses_BFD.index_select(1, self.in_time).transpose(1, 2))
        return torch.einsum("bcf,efs->besc", found_BCF, self.place_EFS.to(found_BCF.dtype)).flatten(2)


def _convolution(inside: int, outside: int) -> tuple[nn.Module, ...]:
    return nn.Conv1d(inside, outside, 3, padding=1, bias=False), nn.BatchNorm1d(outside), nn.ReLU(), nn.Dropout(DROPOUT)
