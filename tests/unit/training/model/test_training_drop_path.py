"""Which tokens of a clip share a draw of stochastic depth: those that share it in TimeSformer, element by element."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sefar_training.model.block import ElementGroups, SpaceTimeBlock

FRAMES, CLIPS, POSITIONS, DIM = (2, 2, 4), 64, 4, 24
ELEMENT = torch.tensor([0, 0, 1, 1, 2, 2, 2, 2])


@pytest.fixture
def block() -> SpaceTimeBlock:
    """A block whose branches add nothing; each test lets one of them add 1."""
    torch.manual_seed(0)
    block = SpaceTimeBlock(DIM, 3, ElementGroups(FRAMES), drop_path=0.5).train()
    for layer in (block.temporal_attn.proj, block.attn.proj, block.mlp.fc2):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    nn.init.eye_(block.temporal_fc.weight)
    nn.init.zeros_(block.temporal_fc.bias)
    return block


def tokens() -> tuple[Tensor, Tensor]:
    return torch.zeros(CLIPS, 3, DIM), torch.zeros(CLIPS, 8, POSITIONS, DIM)


def varies(draws: Tensor) -> bool:
    """Whether draws along the last axis differ in some rows and the values are those of a rate of one half."""
    return set(draws.unique().tolist()) == {0, 2} and bool((draws != draws[..., :1]).any())


def test_the_mlp_is_dropped_for_the_class_token_and_all_patches_of_an_element(block: SpaceTimeBlock) -> None:
    nn.init.ones_(block.mlp.fc2.bias)
    cls, x = block(*tokens())
    assert varies(cls[:, :, 0])
    assert torch.equal(x, cls[:, ELEMENT, None].expand_as(x))
    assert varies(block.forward_class_tokens(*tokens())[:, :, 0])


def test_spatial_attention_is_dropped_for_whole_frames(block: SpaceTimeBlock) -> None:
    nn.init.ones_(block.attn.proj.bias)
    cls, x = block(*tokens())
    assert varies(x[:, :, 0, 0])
    assert torch.equal(x, x[:, :, :1, :1].expand_as(x))
    expected = torch.stack([x[:, n == ELEMENT, 0].mean(dim=1) for n in range(3)], dim=1)
    assert torch.allclose(cls, expected)
    assert {0.0, 0.5, 1.0, 1.5, 2.0} == set(block.forward_class_tokens(*tokens())[:, 2, 0].tolist())


def test_temporal_attention_is_dropped_for_a_position_in_all_frames_of_an_element(block: SpaceTimeBlock) -> None:
    nn.init.ones_(block.temporal_attn.proj.bias)
    _, x = block(*tokens())
    first = x[:, [0, 2, 4]]
    assert torch.equal(x, first[:, ELEMENT])
    assert varies(x[:, 0, :, 0]) and varies(first[:, :, 0, 0])


def test_nothing_is_dropped_outside_training(block: SpaceTimeBlock) -> None:
    nn.init.ones_(block.mlp.fc2.bias)
    cls, x = block.eval()(*tokens())
    assert (cls == 1).all() and (x == 1).all()
