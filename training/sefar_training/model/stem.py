"""From frames to tokens: a ViT's patch embedding, or a small convolutional stem for tiny models."""

from __future__ import annotations

from itertools import pairwise

from timm.layers import PatchEmbed
from torch import Tensor, nn

CONV_STEM_STRIDE = 16
"""Side of a patch in pixels: four layers of stride 2."""


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


def create_stem(kind: str, size: int, patch: int, dim: int) -> nn.Module:
    """Build the stem of a variant.

    Args:
        kind: ``conv`` or ``patch``.
        size: side of the square frames in pixels, a multiple of `patch`.
        patch: side of a patch in pixels; 16 for ``conv``.
        dim: width D of the tokens.

    Returns:
        A module from (B,3,size,size) to (B,(size/patch)²,D).
    """
    if kind == "conv":
        if patch != CONV_STEM_STRIDE:
            raise ValueError(f"the convolutional stem has stride {CONV_STEM_STRIDE}, not {patch}")
        return ConvStem(dim)
    return PatchEmbed(size, patch, 3, dim)
