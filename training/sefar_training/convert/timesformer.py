"""TimeSformer folders of Hugging Face transformers (`TimesformerForVideoClassification`), read without that package.

The whole backbone is converted. The Kinetics classifier does not fit temporal elements, so the head is new.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from torch import Tensor

from ..model.block import BACKBONE_EPS
from .files import ConversionError, read_json, read_weights_file, state_dict_in
from .source import BACKBONE, MEAN, STD, Source, describe, measure, rgb

CONFIG = "config.json"
PREPROCESSOR = "preprocessor_config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")

CLASSIFIER = frozenset({"classifier.weight", "classifier.bias"})
TIME = "embeddings.time_embeddings"
OUTSIDE = {
    "cls_token": "embeddings.cls_token",
    "pos_embed": "embeddings.position_embeddings",
    "patch_embed.proj": "embeddings.patch_embeddings.projection",
    "norm": "layernorm",
}
IN_A_LAYER = {
    "norm1": "layernorm_before",
    "attn.qkv": "attention.attention.qkv",
    "attn.proj": "attention.output.dense",
    "temporal_norm1": "temporal_layernorm",
    "temporal_attn.qkv": "temporal_attention.attention.qkv",
    "temporal_attn.proj": "temporal_attention.output.dense",
    "temporal_fc": "temporal_dense",
    "norm2": "layernorm_after",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}
REQUIRED = {
    "attention_type": "divided_space_time",
    "hidden_act": "gelu",
    "layer_norm_eps": BACKBONE_EPS,
    "qkv_bias": True,
}
"""Settings that our backbone needs; they are also the defaults of transformers for keys that are left out."""


class TimesformerSource(Source):
    """The weights of a TimeSformer, under transformers' names without their prefix."""

    def spelled(self, ours: str) -> str | None:
        """Transformers' name for a tensor."""
        return timesformer_name(ours)

    def derived(self, carried: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The time embedding of each element: TimeSformer's, resampled to the number of frames as TimeSformer does."""
        time_1DF = self.state[TIME].transpose(1, 2)
        return {
            f"{BACKBONE}time_embed.{e}": F.interpolate(time_1DF, size=frames, mode="nearest").transpose(1, 2)
            for e, frames in enumerate(self.sample_frames)
        }


def timesformer_name(ours: str) -> str | None:
    """Transformers' name for a tensor of our model, or None if it has no such tensor."""
    if not ours.startswith(BACKBONE) or ".time_embed." in ours:
        return None
    name = ours.removeprefix(BACKBONE)
    if name in OUTSIDE:
        return OUTSIDE[name]
    module, parameter = name.rsplit(".", 1)
    if module in OUTSIDE:
        return f"{OUTSIDE[module]}.{parameter}"
    _, layer, inside = module.split(".", 2)
    return f"encoder.layer.{layer}.{IN_A_LAYER[inside]}.{parameter}"


def fetch_timesformer(name: str) -> Path:
    """Download a model's folder from the hub, or find it in the cache.

    Raises:
        ConversionError: it cannot be downloaded.
    """
    try:
        folder = Path(snapshot_download(name, allow_patterns=[CONFIG, PREPROCESSOR, WEIGHTS[0]]))
        if not (folder / WEIGHTS[0]).exists():
            folder = Path(snapshot_download(name, allow_patterns=[CONFIG, PREPROCESSOR, WEIGHTS[1]]))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise ConversionError(
            f"{name} is not a local folder, and cannot be downloaded from the Hugging Face hub: {error}"
        ) from error
    return folder


def read_timesformer(folder: Path, sample_frames: tuple[int, ...], num_heads: int | None = None) -> TimesformerSource:
    """Read a folder in the format of transformers.

    Args:
        folder: has `config.json` and `model.safetensors` (or `pytorch_model.bin`, read without running code).
        sample_frames: frames per temporal element, context last.
        num_heads: number of attention heads; None for the config's.

    Raises:
        ConversionError: the folder is not a TimeSformer, or our backbone cannot compute what it computes.
    """
    config = read_json(folder / CONFIG)
    if config.get("model_type") != "timesformer":
        raise ConversionError(f"{folder / CONFIG} describes a {config.get('model_type')!r} model, not 'timesformer'")
    for key, value in REQUIRED.items():
        if config.get(key, value) != value:
            raise ConversionError(f"{folder} has {key} {config[key]!r}; SeFAR needs {value!r}")
    file = next((folder / name for name in WEIGHTS if (folder / name).exists()), None)
    if file is None:
        raise ConversionError(f"{folder} has no weights: neither {' nor '.join(WEIGHTS)}")
    named = state_dict_in(read_weights_file(file), [], file)
    state = {name.removeprefix("timesformer."): value for name, value in named.items()}
    if TIME not in state or state[TIME].ndim != 3:
        raise ConversionError(f"{file} is not a TimeSformer: it has no tensor {TIME}")
    heads = num_heads if num_heads is not None else config.get("num_attention_heads", 12)
    measured = measure(state, timesformer_name, str(file))
    pixels = _pixels(folder)
    classifier = state.get("classifier.weight")
    return TimesformerSource(
        origin=str(folder),
        state=state,
        architecture=describe(measured, heads, str(folder)),
        size=measured.size,
        sample_frames=sample_frames,
        classes=None if classifier is None else classifier.shape[0],
        mean=rgb(pixels.get("image_mean"), MEAN),
        std=rgb(pixels.get("image_std"), STD),
        left_out=CLASSIFIER | {TIME},
    )


def _pixels(folder: Path) -> dict[str, Any]:
    file = folder / PREPROCESSOR
    return read_json(file) if file.exists() else {}
