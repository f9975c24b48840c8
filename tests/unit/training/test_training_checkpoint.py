from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sefar_training.checkpoint import (
    CheckpointError,
    CheckpointInfo,
    init_backbone,
    load_checkpoint,
    read_info,
    save_checkpoint,
)
from sefar_training.config import ModelConfig
from sefar_training.model import create_model

INFO = CheckpointInfo(
    model=ModelConfig(sample_frames=(1, 2)),
    dataset="made up",
    labels=("forward", "backward"),
    attributes=({"direction": "forward", "twists": 0.5}, {"direction": "backward", "twists": 1.0}),
    opposites=(1, 0),
    recipe={"seed": 3},
    metrics={"top1": 0.5},
)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    return save_checkpoint(tmp_path / "final", create_model("tiny", 2, (1, 2)), INFO)


def test_round_trip(saved: Path) -> None:
    torch.manual_seed(1)
    original = create_model("tiny", 2, (1, 2)).state_dict()
    model, info = load_checkpoint(saved)
    assert info == INFO
    assert not model.training
    assert all(torch.equal(value, original[name]) for name, value in model.state_dict().items())
    assert sorted(p.name for p in saved.iterdir()) == ["config.json", "model.safetensors"]


def test_saving_again_replaces_and_leaves_nothing_else(saved: Path) -> None:
    save_checkpoint(saved, create_model("tiny", 2, (1, 2)), INFO.model_copy(update={"dataset": "second"}))
    assert read_info(saved).dataset == "second"
    assert [p.name for p in saved.parent.iterdir()] == ["final"]


def test_init_loads_the_backbone_but_not_the_head(saved: Path) -> None:
    model = create_model("tiny", 7, (1, 2))
    head = {k: v.clone() for k, v in model.head.state_dict().items()}
    init_backbone(model, saved)
    source, _ = load_checkpoint(saved)
    assert all(torch.equal(v, source.backbone.state_dict()[k]) for k, v in model.backbone.state_dict().items())
    assert all(torch.equal(v, head[k]) for k, v in model.head.state_dict().items())


def test_other_backbone_is_refused(saved: Path) -> None:
    with pytest.raises(CheckpointError, match="does not fit: init needs the same variant"):
        init_backbone(create_model("tiny", 2, (2, 2, 4)), saved)


def test_folder_that_is_not_a_checkpoint_is_named(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere is not a checkpoint: it has no config\.json"):
        load_checkpoint(tmp_path / "nowhere")
    (saved / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(CheckpointError, match=r"model\.safetensors is missing or damaged"):
        load_checkpoint(saved)
    (saved / "config.json").write_text('{"model": {"variant": "tiny"}}')
    with pytest.raises(CheckpointError, match="does not describe a checkpoint"):
        load_checkpoint(saved)


def test_weights_of_another_model_are_refused(saved: Path) -> None:
    other = INFO.model_copy(update={"labels": ("a", "b", "c"), "attributes": (), "opposites": ()})
    (saved / "config.json").write_text(other.model_dump_json())
    with pytest.raises(CheckpointError, match=r"do not fit its config\.json"):
        load_checkpoint(saved)
