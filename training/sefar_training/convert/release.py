"""Checkpoints of the SeFAR authors' release: ``{"epoch", "model_state", "optimizer_state", "cfg"}`` in a .pyth file.

The whole model is converted, including the head, so that a converted checkpoint computes what the release computes.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

from .files import ConversionError, read_weights_file, state_dict_in
from .source import BACKBONE, MEAN, STD, Source, describe, measure, rgb

HEAD_DIM = 64
"""Width of a head in every model of the release."""

RELEASE_BACKBONE = "vit.model."
RELEASE_HEAD = {
    "single": "post_fusion0",
    "pair": "post_fusion1",
    "fuse": "global_fusion",
    "pair_norm": "ln1",
    "single_norm": "ln2",
    "fuse_norm": "ln3",
    "classifier": "fc",
}


def release_name(ours: str) -> str:
    """The authors' name for a tensor of our model, e.g. ``fc.bias`` for ``head.classifier.bias``."""
    if ours.startswith(BACKBONE):
        return RELEASE_BACKBONE + ours.removeprefix(BACKBONE)
    _, module, parameter = ours.split(".")
    return f"{RELEASE_HEAD[module]}.{parameter}"


class ReleaseSource(Source):
    """A checkpoint of the authors' release."""

    def spelled(self, ours: str) -> str:
        """The authors' name for a tensor."""
        return release_name(ours)


def read_release(file: Path, num_heads: int | None = None) -> ReleaseSource:
    """Read a checkpoint of the authors' release.

    Args:
        file: the .pyth file.
        num_heads: number of attention heads, if neither the settings in the file nor the width determine it.

    Raises:
        ConversionError: the file is not such a checkpoint, or the number of heads is unknown.
    """
    content = read_weights_file(file)
    state = state_dict_in(content, ["model_state"], file)
    settings = _settings(content.get("cfg"))
    return describe_release(state, str(file), settings, num_heads)


def describe_release(
    state: Mapping[str, Tensor], origin: str, settings: Mapping[str, Any], num_heads: int | None = None
) -> ReleaseSource:
    """Infer the model from its tensors, which have the authors' names.

    Args:
        state: tensors; only their shapes are used.
        origin: where they come from, for messages.
        settings: the authors' settings, as far as the file contains them.
        num_heads: see `read_release`.

    Raises:
        ConversionError: the tensors are not such a model, or the number of heads is unknown.
    """
    if not any(name.startswith(RELEASE_BACKBONE) for name in state):
        raise ConversionError(
            f"{origin} is not a checkpoint of the SeFAR release: no tensor name begins with {RELEASE_BACKBONE}. "
            "If these are the weights of a ViT, pass timm's name with --architecture"
        )
    measured = measure(state, release_name, origin)
    embeddings = [
        tuple(state[name].shape)
        for name in takewhile(state.__contains__, (f"{RELEASE_BACKBONE}time_embed.{e}" for e in count()))
    ]
    classifier = release_name("head.classifier.weight")
    if len(embeddings) < 2 or any(len(shape) != 3 for shape in embeddings) or classifier not in state:
        raise ConversionError(
            f"{origin} is not a SeFAR checkpoint: it needs {RELEASE_BACKBONE}time_embed.0, .1 … for two or more "
            f"temporal elements, and {classifier}"
        )
    data = _section(settings, "DATA")
    return ReleaseSource(
        origin=origin,
        state=state,
        architecture=describe(measured, _heads(measured.dim, settings, num_heads, origin), origin),
        size=measured.size,
        sample_frames=tuple(shape[1] for shape in embeddings),
        classes=state[classifier].shape[0],
        mean=rgb(data.get("MEAN"), MEAN),
        std=rgb(data.get("STD"), STD),
    )


def _heads(dim: int, settings: Mapping[str, Any], num_heads: int | None, origin: str) -> int:
    if num_heads is not None:
        return num_heads
    stated = _section(settings, "TIMESFORMER").get("NUM_HEADS", settings.get("NUM_HEADS"))
    if isinstance(stated, int):
        return stated
    if dim % HEAD_DIM:
        raise ConversionError(
            f"{origin} has width {dim}, which is not a multiple of {HEAD_DIM}, the width of a head in the release; "
            "pass the number of heads with --num-heads"
        )
    return dim // HEAD_DIM


class _SettingsLoader(yaml.SafeLoader):
    """Plain YAML, plus the tuples in the authors' settings."""


_SettingsLoader.add_constructor("tag:yaml.org,2002:python/tuple", yaml.SafeLoader.construct_sequence)


def _settings(text: Any) -> Mapping[str, Any]:
    """The authors' settings; empty if the file has none that can be read without running code."""
    if not isinstance(text, str):
        return text if isinstance(text, dict) else {}
    try:
        settings = yaml.load(text, Loader=_SettingsLoader)
    except yaml.YAMLError:
        return {}
    return settings if isinstance(settings, dict) else {}


def _section(settings: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = settings.get(name)
    return section if isinstance(section, dict) else {}
