"""Checkpoint files as the authors of SeFAR release them, made from models of ours."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sefar_training.checkpoint import load_checkpoint
from sefar_training.convert import release_name
from sefar_training.model import SefarModel


def released(model: SefarModel) -> dict[str, Tensor]:
    """A model's weights as the authors' release names them."""
    return {release_name(name): value for name, value in model.state_dict().items()}


def save_release(file: Path, state: Mapping[str, Any], cfg: Any = "{}", **more: Any) -> Path:
    torch.save({"epoch": 29, "model_state": dict(state), "optimizer_state": {}, "cfg": cfg, **more}, file)
    return file


def equal_weights(folder: Path, model: SefarModel) -> bool:
    loaded = load_checkpoint(folder)[0].state_dict()
    wanted = model.state_dict()
    return loaded.keys() == wanted.keys() and all(torch.equal(loaded[name], value) for name, value in wanted.items())
