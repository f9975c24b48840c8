"""Image ViTs from timm: a SeFAR backbone that starts as the image model, applied to each frame.

As TimeSformer starts from ImageNet weights: temporal attention and its norm are copies of the spatial ones; its output
projection and the time embeddings are zero. Layer scale is folded into the projections. The head is new.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from ..model.block import BACKBONE_EPS
from .dinov2 import fold_layer_scale, read_dinov2_onnx
from .files import ConversionError, read_json, read_weights_file, state_dict_in
from .source import BACKBONE, MEAN, STD, Source, describe, measure, rgb

LEFT_OUT = frozenset({"head.weight", "head.bias", "mask_token"})
"""Classifier, and what DINOv2 had in place of masked patches when it was trained."""


class ImageSource(Source):
    """The weights of an image ViT, under timm's names."""

    def spelled(self, ours: str) -> str | None:
        """Timm's name for a tensor; it equals ours, but image models have no temporal tensors."""
        return image_name(ours)

    def derived(self, carried: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The temporal tensors: copies of the spatial ones, and zeros."""
        dim = self.architecture.dim
        tensors = {
            f"{BACKBONE}time_embed.{e}": torch.zeros(1, frames, dim) for e, frames in enumerate(self.sample_frames)
        }
        for name, value in carried.items():
            for spatial, temporal in ((".norm1.", ".temporal_norm1."), (".attn.", ".temporal_attn.")):
                if spatial in name:
                    tensors[name.replace(spatial, temporal)] = value.clone()
        for layer in range(self.architecture.depth):
            tensors[f"{BACKBONE}blocks.{layer}.temporal_fc.weight"] = torch.zeros(dim, dim)
            tensors[f"{BACKBONE}blocks.{layer}.temporal_fc.bias"] = torch.zeros(dim)
        return tensors


def image_name(ours: str) -> str | None:
    """Timm's name for a tensor of our model, or None if an image ViT has no such tensor."""
    if not ours.startswith(BACKBONE) or ".temporal_" in ours or ".time_embed." in ours:
        return None
    return ours.removeprefix(BACKBONE)


def read_pretrained_vit(name: str, sample_frames: tuple[int, ...]) -> ImageSource:
    """Load a ViT's pretrained weights through timm, from its cache or the hub.

    Args:
        name: a timm model name, e.g. ``vit_small_patch16_224.augreg_in21k_ft_in1k``.
        sample_frames: frames per temporal element, context last.

    Raises:
        ConversionError: timm has no such weights, they cannot be downloaded, or the architecture does not fit.
    """
    vit = _build(name)
    if not timm.is_model_pretrained(name):
        raise ConversionError(
            f"timm has no pretrained weights for {name}; pass a weights file, with --architecture {name}"
        )
    try:
        state = timm.create_model(name, pretrained=True).state_dict()
    except (OSError, RuntimeError) as error:
        raise ConversionError(f"the weights of {name} cannot be downloaded: {error}") from error
    return describe_vit(vit, state, name, sample_frames)


def read_vit_file(
    file: Path, name: str, sample_frames: tuple[int, ...], said: Mapping[str, Any] | None = None
) -> ImageSource:
    """Read a ViT's weights from a file.

    Args:
        file: a .safetensors file, one that `torch.save` wrote, or an .onnx file that holds a DINOv2 backbone.
        name: timm's name for the architecture.
        sample_frames: frames per temporal element, context last.
        said: preprocessing of the weights (``mean``, ``std``); None for timm's values for the name.

    Raises:
        ConversionError: the file cannot be read, or the architecture does not fit.
    """
    vit = _build(name)
    if file.suffix == ".onnx":
        state = read_dinov2_onnx(file)
    else:
        state = state_dict_in(read_weights_file(file), ["state_dict", "model"], file)
    return describe_vit(vit, state, f"{file} ({name})", sample_frames, said)


def read_vit_folder(folder: Path, sample_frames: tuple[int, ...]) -> ImageSource:
    """Read a folder as timm publishes it: `config.json` with the architecture, and `model.safetensors`."""
    config = read_json(folder / "config.json")
    said = config.get("pretrained_cfg")
    return read_vit_file(
        folder / "model.safetensors",
        str(config.get("architecture")),
        sample_frames,
        said if isinstance(said, dict) else None,
    )


def describe_vit(
    vit: VisionTransformer,
    state: Mapping[str, Tensor],
    origin: str,
    sample_frames: tuple[int, ...],
    said: Mapping[str, Any] | None = None,
) -> ImageSource:
    """Describe a ViT's weights as a source.

    Args:
        vit: the architecture; its own weights are ignored.
        state: the weights, under timm's names.
        origin: where they come from, for messages.
        sample_frames: frames per temporal element, context last.
        said: preprocessing of the weights; None for timm's values for the architecture.

    Raises:
        ConversionError: a SeFAR backbone cannot compute what this ViT computes; the message says why.
    """
    if "cls_token" not in state:
        raise ConversionError(f"{origin} has no class token, which each temporal element needs")
    block = vit.blocks[0]
    if not isinstance(block, Block):
        raise ConversionError(f"{origin} has layers of the type {type(block).__name__}, which SeFAR does not have")
    activation = getattr(block.mlp, "act", None)
    if not isinstance(activation, nn.GELU) or activation.approximate != "none":
        raise ConversionError(f"{origin} has the activation {activation}; SeFAR needs exact GELU")
    if block.norm1.eps != BACKBONE_EPS:
        raise ConversionError(f"{origin} has layer norms with eps {block.norm1.eps}; SeFAR needs {BACKBONE_EPS}")
    if said is None:
        said = vit.pretrained_cfg or {}
    state = fold_layer_scale(state)
    measured = measure(state, image_name, origin)
    head = state.get("head.weight")
    return ImageSource(
        origin=origin,
        state=state,
        architecture=describe(measured, block.attn.num_heads, origin),
        size=measured.size,
        sample_frames=sample_frames,
        classes=None if head is None else head.shape[0],
        mean=rgb(said.get("mean"), MEAN),
        std=rgb(said.get("std"), STD),
        left_out=LEFT_OUT,
    )


def _build(name: str) -> VisionTransformer:
    """Build the architecture without allocating its weights."""
    if not timm.is_model(name):
        raise ConversionError(f"timm has no model {name!r}")
    try:
        with torch.device("meta"):
            vit = timm.create_model(name)
    except RuntimeError as error:  # a name with a tag that does not exist
        raise ConversionError(f"timm cannot build {name}: {error}") from error
    if not isinstance(vit, VisionTransformer):
        raise ConversionError(f"{name} is not a plain vision transformer but a {type(vit).__name__}")
    return vit
