"""The complete SeFAR model and its named variants."""

from __future__ import annotations

from typing import Literal, NamedTuple, Self, get_args

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from .backbone import TimeSformer
from .head import DROPOUT, FusionHead

VariantName = Literal["tiny", "small", "base"]


class Architecture(BaseModel):
    """Sizes of a backbone.

    Attributes:
        patch: side of a patch in pixels.
        dim: width D.
        depth: number of layers.
        heads: number of attention heads.
        stem: ``patch`` (a ViT's projection) or ``conv`` (four convolutions, for models trained from scratch).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    patch: int = Field(ge=1)
    dim: int = Field(ge=1)
    depth: int = Field(ge=1)
    heads: int = Field(ge=1)
    stem: Literal["patch", "conv"] = "patch"

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        if self.dim % self.heads:
            raise ValueError(f"width {self.dim} is not a multiple of the number of heads {self.heads}")
        return self


class Variant(Architecture):
    """A named architecture.

    Attributes:
        size: default side of the square frames in pixels.
    """

    size: int


VARIANTS: dict[VariantName, Variant] = {
    "tiny": Variant(size=64, patch=16, dim=128, depth=4, heads=4, stem="conv"),
    "small": Variant(size=224, patch=16, dim=384, depth=12, heads=6),
    "base": Variant(size=224, patch=16, dim=768, depth=12, heads=12),
}
assert set(VARIANTS) == set(get_args(VariantName))


class SefarOutput(NamedTuple):
    """The model's output for a batch of clips."""

    logits: Tensor
    """(B,K) class scores before softmax."""
    embedding: Tensor
    """(B,256) clip embedding."""
    tokens: Tensor
    """(B,E,D) one vector per temporal element."""


class SefarModel(nn.Module):
    """Backbone and fusion head. They can be called separately: one backbone pass serves any number of head passes.

    Args:
        backbone: maps frames to element tokens.
        head: maps element tokens to embedding and logits.
    """

    def __init__(self, backbone: TimeSformer, head: FusionHead) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, frames_BFCHW: Tensor) -> SefarOutput:
        """Classify clips of normalised frames, float (B,F,3,H,W) in element order."""
        tokens = self.backbone(frames_BFCHW)
        embedding, logits = self.head(tokens)
        return SefarOutput(logits, embedding, tokens)


def create_model(
    variant: VariantName,
    classes: int,
    sample_frames: tuple[int, ...] = (2, 2, 4),
    *,
    size: int | None = None,
    dropout: float = DROPOUT,
    drop_path: float = 0.0,
    architecture: Architecture | None = None,
) -> SefarModel:
    """Build an untrained model.

    Args:
        variant: a key of `VARIANTS`.
        classes: number of classes K.
        sample_frames: frames per temporal element, context last.
        size: side of the square frames in pixels; None for the variant's default.
        dropout: rate in the head.
        drop_path: rate of stochastic depth in the backbone.
        architecture: sizes to use instead of the variant's, for models without a named variant.

    Raises:
        ValueError: the variant is unknown, or `size` is not a multiple of the patch size.
    """
    if variant not in VARIANTS:
        raise ValueError(f"no model variant {variant!r}; choose one of {', '.join(VARIANTS)}")
    sizes = architecture or VARIANTS[variant]
    backbone = TimeSformer(
        sample_frames,
        size=size or VARIANTS[variant].size,
        patch=sizes.patch,
        dim=sizes.dim,
        depth=sizes.depth,
        heads=sizes.heads,
        stem=sizes.stem,
        drop_path=drop_path,
    )
    return SefarModel(backbone, FusionHead(len(sample_frames), sizes.dim, classes, dropout))


class FrameNormalizer(nn.Module):
    """Turns decoded frames into the model's input: uint8 (B,F,H,W,3) to normalised float (B,F,3,H,W).

    Args:
        mean: per RGB channel in [0, 1]; subtracted.
        std: per RGB channel in [0, 1]; divided by.
    """

    def __init__(self, mean: tuple[float, float, float], std: tuple[float, float, float]) -> None:
        super().__init__()
        scale, shift = 1 / (255 * torch.tensor(std)), -torch.tensor(mean) / torch.tensor(std)
        self.register_buffer("scale", scale[:, None, None], persistent=False)
        self.register_buffer("shift", shift[:, None, None], persistent=False)

    def forward(self, frames_BFHWC: Tensor) -> Tensor:
        """Normalise a batch of clips."""
        # Not made contiguous: the frames' own memory order is faster for the convolutions that follow.
        return frames_BFHWC.permute(0, 1, 4, 2, 3).float() * self.scale + self.shift
