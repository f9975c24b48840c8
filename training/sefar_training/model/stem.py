"""From a frame to tokens: a ViT's patch embedding, a small convolutional stem for tiny models, or one token a joint."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
from timm.layers import PatchEmbed
from torch import Tensor, nn

from sefar_serve.pose import EDGES, JOINTS
from sefar_serve.sampling import Sampling

from .motion import MotionSummary

CONV_STEM_STRIDE = 16
"""Side of a patch in pixels: four layers of stride 2."""

POSE_VALUES = 3
"""x, y and z of a joint. Its visibility is left out: it tells the camera's place more than the movement."""

_PARENT = {end: start for start, end in reversed(EDGES)}
PARENTS = tuple(_PARENT.get(joint, joint) for joint in range(len(JOINTS)))
"""The joint before each on the body. Nose and left shoulder have themselves: their bones have length 0."""


class ConvStem(nn.Module):
    """Four 3x3 convolutions of stride 2: a frame of H x W pixels becomes (H/16)·(W/16) tokens.

    A small transformer learns edges slowly from a plain patch projection. Convolutions learn them faster.

    Args:
        dim: width D of the tokens, a multiple of 4.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        widths = (3, dim // 4, dim // 2, dim, dim)
        layers: list[nn.Module] = []
        for inside, outside in pairwise(widths):
            layers += [
                nn.Conv2d(inside, outside, kernel_size=3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(outside),
                nn.GELU(),
            ]
        self.layers = nn.Sequential(*layers[:-1], nn.Conv2d(dim, dim, kernel_size=1))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Turn frames float (B,3,H,W) into tokens (B,N,D) in row order."""
        return self.layers(x_BCHW).flatten(2).transpose(1, 2)


class JointStem(nn.Module):
    """One token for each joint of each person: a linear map of its coordinates, with its own weights per joint.

    Args:
        dim: width D of the tokens.
        bones: also map the vector to each joint from the joint before it on the body, see `PARENTS`.
    """

    def __init__(self, dim: int, bones: bool = False) -> None:
        super().__init__()
        self.bones = bones
        values = POSE_VALUES * (2 if bones else 1)
        # The scale of a linear layer's default: joints should outweigh the position embeddings from the start.
        self.weight_JCD = nn.Parameter(torch.empty(len(JOINTS), values, dim).uniform_(-1, 1) * values**-0.5)
        self.bias = nn.Parameter(torch.zeros(dim))
        self.register_buffer("parents", torch.tensor(PARENTS), persistent=False)

    def forward(self, x_BPJC: Tensor) -> Tensor:
        """Turn joints float (B,P,J,4) into tokens (B,P·J,D), person by person."""
        values = x_BPJC[..., :POSE_VALUES]
        if self.bones:
            values = torch.cat([values, values - values.index_select(2, self.parents)], dim=-1)
        b, p, j, c = values.shape
        by_joint = values.permute(2, 0, 1, 3).reshape(j, b * p, c)
        tokens = torch.bmm(by_joint, self.weight_JCD) + self.bias
        return tokens.reshape(j, b, p, -1).permute(1, 2, 0, 3).reshape(b, p * j, -1)


class Stem(NamedTuple):
    """A stem, and how many tokens it makes of a frame."""

    module: nn.Module
    """From the frames of all clips to tokens (B·F,N,D)."""
    tokens: int
    """N."""
    motion: MotionSummary | None = None
    """What class tokens begin with, if they are not constant at the start."""


def create_stem(kind: str, size: int, patch: int, dim: int) -> Stem:
    """Build the stem of a variant that sees pictures.

    Args:
        kind: ``conv`` or ``patch``.
        size: side of the square frames in pixels, a multiple of `patch`.
        patch: side of a patch in pixels; 16 for ``conv``.
        dim: width D of the tokens.

    Returns:
        A module from (B,3,size,size) to (B,(size/patch)²,D).

    Raises:
        ValueError: `size` and `patch` do not fit.
    """
    if size % patch:
        raise ValueError(f"size {size} is not a multiple of the patch size {patch}")
    tokens = (size // patch) ** 2
    if kind == "conv":
        if patch != CONV_STEM_STRIDE:
            raise ValueError(f"the convolutional stem has stride {CONV_STEM_STRIDE}, not {patch}")
        return Stem(ConvStem(dim), tokens)
    return Stem(PatchEmbed(size, patch, 3, dim), tokens)


def create_joint_stem(persons: int, dim: int, bones: bool, sampling: Sampling) -> Stem:
    """Build the stem of a variant that sees joints, a module from (B,P,J,4) to (B,P·J,D); see `JointStem`."""
    return Stem(JointStem(dim, bones), persons * len(JOINTS), MotionSummary(sampling, dim))
