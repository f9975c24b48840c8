"""DINOv2: its layer scale folded into our projections, and its weights out of an ONNX file of transformers' model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import onnx
import torch
from google.protobuf.message import DecodeError
from onnx import numpy_helper
from torch import Tensor

from .files import ConversionError

SCALED = {"ls1": "attn.proj", "ls2": "mlp.fc2"}
"""Layer scales of a block, and the linear maps whose outputs they multiply."""

BACKBONE = "backbone."
OUTSIDE = {
    "embeddings.cls_token": "cls_token",
    "embeddings.patch_embeddings.projection.weight": "patch_embed.proj.weight",
    "embeddings.patch_embeddings.projection.bias": "patch_embed.proj.bias",
    "layernorm.weight": "norm.weight",
    "layernorm.bias": "norm.bias",
}
IN_A_LAYER = {
    "norm1": "norm1",
    "norm2": "norm2",
    "attention.output.dense": "attn.proj",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
QKV = ("query", "key", "value")

_MATRIX = re.compile(r"/backbone/encoder/layer\.(\d+)/(.+)/MatMul")


def fold_layer_scale(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Multiply each layer scale into the linear map before it, which gives the same outputs.

    Args:
        state: weights of a ViT, under timm's names.

    Returns:
        The weights without ``ls1`` and ``ls2``; the same if there are none.
    """
    folded = dict(state)
    for name in state:
        block, _, scale = name.removesuffix(".gamma").rpartition(".")
        if scale in SCALED and name.endswith(".gamma"):
            gamma, target = folded.pop(name), f"{block}.{SCALED[scale]}"
            folded[f"{target}.weight"] = gamma[:, None] * folded[f"{target}.weight"]
            folded[f"{target}.bias"] = gamma * folded[f"{target}.bias"]
    return folded


def read_dinov2_onnx(file: Path) -> dict[str, Tensor]:
    """Read the weights of a DINOv2 backbone out of an ONNX file that torch exported from transformers' model.

    Matrices have lost their names there. The names of the nodes that multiply by them tell which they are.

    Args:
        file: a model with a part named ``backbone``; the rest of it is left out.

    Returns:
        The weights, under timm's names.

    Raises:
        ConversionError: the file is missing, damaged, or has no such part.
    """
    try:
        graph = onnx.load(file).graph
    except FileNotFoundError as error:
        raise ConversionError(f"{file} does not exist") from error
    except DecodeError as error:
        raise ConversionError(f"{file} is damaged or not an ONNX file: {error}") from error
    tensors = {one.name: torch.from_numpy(numpy_helper.to_array(one).copy()) for one in graph.initializer}
    named = {name.removeprefix(BACKBONE): value for name, value in tensors.items() if name.startswith(BACKBONE)}
    for node in graph.node:
        found = _MATRIX.fullmatch(node.name)
        if found and node.op_type == "MatMul" and node.input[1] in tensors:
            module = found[2].replace("/", ".")
            named[f"encoder.layer.{found[1]}.{module}.weight"] = tensors[node.input[1]].T.contiguous()
    try:
        state = {theirs: named[name] for name, theirs in OUTSIDE.items()}
        state["pos_embed"] = _positions(tensors, state["cls_token"].shape[-1])
        layer = 0
        while f"encoder.layer.{layer}.norm1.weight" in named:
            state |= _layer(named, layer)
            layer += 1
    except KeyError as error:
        raise ConversionError(f"{file} holds no DINOv2 backbone: it has no tensor {error}") from error
    return state


def _layer(named: Mapping[str, Tensor], layer: int) -> dict[str, Tensor]:
    ours, theirs = f"blocks.{layer}", f"encoder.layer.{layer}"
    state = {}
    for part in ("weight", "bias"):
        state |= {f"{ours}.{name}.{part}": named[f"{theirs}.{module}.{part}"] for module, name in IN_A_LAYER.items()}
        inputs = [named[f"{theirs}.attention.attention.{one}.{part}"] for one in QKV]
        state[f"{ours}.attn.qkv.{part}"] = torch.cat(inputs)
    for number in (1, 2):
        state[f"{ours}.ls{number}.gamma"] = named[f"{theirs}.layer_scale{number}.lambda1"]
    return state


def _positions(tensors: Mapping[str, Tensor], dim: int) -> Tensor:
    """Position embeddings (1,1+N,D); the exporter cut them into that of the class token and those of the patches."""
    unnamed = [value for name, value in tensors.items() if name.startswith("onnx::") and value.ndim == 3]
    of_class = [value for value in unnamed if value.shape == (1, 1, dim)]
    of_patches = [value for value in unnamed if value.shape[1] > 1 and value.shape[2] == dim]
    if len(of_class) != 1 or len(of_patches) != 1:
        raise KeyError("embeddings.position_embeddings")
    return torch.cat([of_class[0], of_patches[0]], dim=1)
