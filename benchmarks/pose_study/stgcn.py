"""ST-GCN++, a graph convolution for skeleton recognition, small enough for the budget of our model.

After Duan et al., PYSKL: Towards Good Practices for Skeleton Action Recognition (2022). As there: three adjacency
matrices (each joint itself, towards the body's centre, away from it) that start as the skeleton and are learned, a
residual in each spatial convolution, six temporal branches (dilations 1 to 4, maximum, 1x1), batch normalisation,
average pooling.

Simplified: four blocks of 32 to 64 channels instead of ten of 64 to 256, and time is halved once instead of twice; one
stream, the joints (their best figures average four: joints, bones, and the motion of both); 16 frames instead of 100;
x, y, z and visibility as channels; AdamW with the schedule of our recipe instead of SGD.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sefar_serve.pose import EDGES, JOINTS
from sefar_serve.pose.joints import HIPS, NUMBER, SHOULDERS
from sefar_training.model import SefarOutput

WIDTHS = (32, 32, 64, 64)
STRIDES = (1, 2, 1, 1)
DILATIONS = (1, 2, 3, 4)
BRANCHES = len(DILATIONS) + 2
VALUES = 4
"""x, y, z and visibility of a joint."""

BONES = (*EDGES, *((NUMBER["nose"], shoulder) for shoulder in SHOULDERS))
"""The skeleton as a connected graph."""


def distances() -> list[int]:
    """Bones between each joint and the hips."""
    found = dict.fromkeys(HIPS, 0)
    while len(found) < len(JOINTS):
        for a, b in BONES:
            for near, far in ((a, b), (b, a)):
                if near in found:
                    found[far] = min(found.get(far, len(JOINTS)), found[near] + 1)
    return [found[joint] for joint in range(len(JOINTS))]


def adjacency() -> Tensor:
    """The three graphs, float (3,J,J): itself, towards the hips, away from them.

    Entry (k, from, to) is the share of a joint in what another joint receives. What a joint receives sums to 1, or to
    0. A bone between joints that are equally far from the hips belongs to both directions.
    """
    graphs = torch.zeros(3, len(JOINTS), len(JOINTS))
    graphs[0] = torch.eye(len(JOINTS))
    far = distances()
    for a, b in BONES:
        for start, end in ((a, b), (b, a)):
            if far[start] >= far[end]:
                graphs[1, start, end] = 1
            if far[start] <= far[end]:
                graphs[2, start, end] = 1
    return graphs / graphs.sum(dim=1, keepdim=True).clamp_min(1)


class SpatialConvolution(nn.Module):
    """Each joint gathers from its neighbours: (B,C,F,J) to (B,D,F,J)."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.graphs = nn.Parameter(adjacency())
        self.mix = nn.Conv2d(inside, outside * len(self.graphs), 1)
        self.norm = nn.BatchNorm2d(outside)
        self.skip: nn.Module = nn.Identity()
        if inside != outside:
            self.skip = nn.Sequential(nn.Conv2d(inside, outside, 1), nn.BatchNorm2d(outside))

    def forward(self, x_BCFJ: Tensor) -> Tensor:
        """Convolve."""
        by_graph = self.mix(x_BCFJ).unflatten(1, (len(self.graphs), -1))
        gathered = torch.einsum("bkcfv,kvw->bcfw", by_graph, self.graphs)
        return torch.relu(self.norm(gathered) + self.skip(x_BCFJ))


class TemporalConvolution(nn.Module):
    """Six branches over time, joined: (B,D,F,J) to (B,D,F/stride,J).

    Every branch begins with a 1x1 convolution. They are computed as one, which is faster.
    """

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        narrow = width // BRANCHES
        self.split = [width - narrow * (BRANCHES - 1), *[narrow] * (BRANCHES - 1)]
        self.stride = stride
        self.enter = nn.Conv2d(width, width, 1)
        self.norm = nn.BatchNorm2d(width - narrow)
        self.over_time = nn.ModuleList(
            nn.Conv2d(inner, inner, (3, 1), (stride, 1), (dilation, 0), (dilation, 1))
            for inner, dilation in zip(self.split, DILATIONS, strict=False)
        )
        self.join = nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, width, 1), nn.BatchNorm2d(width))

    def forward(self, x_BDFJ: Tensor) -> Tensor:
        """Convolve."""
        active, plain = torch.split(self.enter(x_BDFJ), [sum(self.split[:-1]), self.split[-1]], dim=1)
        *inner, pooled = torch.split(torch.relu(self.norm(active)), self.split[:-1], dim=1)
        found = [layer(part) for layer, part in zip(self.over_time, inner, strict=True)]
        found += [F.max_pool2d(pooled, (3, 1), (self.stride, 1), (1, 0)), plain[:, :, :: self.stride]]
        return self.join(torch.cat(found, dim=1))


class Block(nn.Module):
    """Over the body, then over time, with a residual around both."""

    def __init__(self, inside: int, outside: int, stride: int, residual: bool) -> None:
        super().__init__()
        self.space = SpatialConvolution(inside, outside)
        self.time = TemporalConvolution(outside, stride)
        self.residual = residual
        self.skip: nn.Module = nn.Identity()
        if residual and (inside != outside or stride != 1):
            self.skip = nn.Sequential(nn.Conv2d(inside, outside, 1, (stride, 1)), nn.BatchNorm2d(outside))

    def forward(self, x_BCFJ: Tensor) -> Tensor:
        """Convolve."""
        x = self.time(self.space(x_BCFJ))
        return torch.relu(x + self.skip(x_BCFJ) if self.residual else x)


class StGcn(nn.Module):
    """ST-GCN++ for clips of one or more persons; their features are averaged.

    Args:
        classes: number of classes K.
        widths: channels of each block.
        strides: stride in time of each block.
    """

    def __init__(self, classes: int, widths: Sequence[int] = WIDTHS, strides: Sequence[int] = STRIDES) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(VALUES * len(JOINTS))
        inside = (VALUES, *widths[:-1])
        self.blocks = nn.Sequential(
            *(Block(*sizes, residual=n > 0) for n, sizes in enumerate(zip(inside, widths, strides, strict=True)))
        )
        self.classifier = nn.Linear(widths[-1], classes)

    def forward(self, joints_BFPJC: Tensor) -> SefarOutput:
        """Classify normalised joints in order of time, float (B,F,P,J,4)."""
        b, f, p, j, c = joints_BFPJC.shape
        by_value = joints_BFPJC.permute(0, 2, 3, 4, 1).reshape(b * p, j * c, f)
        x_BCFJ = self.norm(by_value).reshape(b * p, j, c, f).permute(0, 2, 3, 1)
        features = self.blocks(x_BCFJ).mean(dim=(2, 3)).unflatten(0, (b, p))
        embedding = features.mean(dim=1)
        return SefarOutput(self.classifier(embedding), embedding, features)
