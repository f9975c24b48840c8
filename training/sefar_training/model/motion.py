"""How class tokens of joints begin: with what temporal convolutions make of whole poses."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .block import ElementGroups

LAYERS = 2
DROPOUT = 0.25


class MotionSummary(nn.Module):
    """One vector for each element, from whole poses in time.

    The tokens of a frame are added up to one vector: each joint has its own projection, so that the sum is a projection
    of the whole pose. Convolutions over each frame and its neighbours within the element follow, then a sum over the
    element's frames. Before and after the convolutions, each frame is multiplied by learned gates that are random at
    the start, so that sums over frames tell them apart. From few labels this learns more than a class token that has to
    find the joints and frames by attention (docs/explanation/decisions/0010-poses.md).

    Args:
        groups: which frames belong to which element.
        dim: width D of tokens and of the result.
    """

    def __init__(self, groups: ElementGroups, dim: int) -> None:
        super().__init__()
        self.groups = groups
        frames = sum(groups.sample_frames)
        before, after, first = [], [], 0
        for count in groups.sample_frames:
            last = first + count - 1
            # Beyond its ends an element has zeros, which are appended as frame F.
            before += [frames, *range(first, last)]
            after += [*range(first + 1, last + 1), frames]
            first = last + 1
        self.register_buffer("before", torch.tensor(before), persistent=False)
        self.register_buffer("after", torch.tensor(after), persistent=False)
        self.convolutions = nn.ModuleList(nn.Linear(3 * dim, dim, bias=False) for _ in range(LAYERS))
        self.norms = nn.ModuleList(nn.BatchNorm1d(dim) for _ in range(LAYERS))
        self.dropout = nn.Dropout(DROPOUT)
        self.gate_before_FD = nn.Parameter(torch.randn(frames, dim))
        self.gate_after_FD = nn.Parameter(torch.randn(frames, dim))

    def forward(self, x_BFND: Tensor) -> Tensor:
        """Summarise space tokens (B,F,N,D) as (B,E,D)."""
        # Tokens of different joints are unrelated: over √N instead of N, their sum keeps their size.
        x_BFD = self.gate_before_FD * x_BFND.sum(dim=2) / x_BFND.shape[2] ** 0.5
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            padded = F.pad(x_BFD, (0, 0, 0, 1))
            around = [padded.index_select(1, self.before), x_BFD, padded.index_select(1, self.after)]
            y = norm(convolution(torch.cat(around, dim=-1)).flatten(0, 1)).view_as(x_BFD)
            x_BFD = self.dropout(F.relu(y))
        return self.groups.mean_over_frames(x_BFD * self.gate_after_FD)
