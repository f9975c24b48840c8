from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from sefar_training.model import FusionHead, SefarModel, TimeSformer, create_stem


@pytest.fixture
def small_model() -> Callable[..., SefarModel]:
    """Builds a model far smaller than any variant, with live temporal attention unless told otherwise."""

    def build(
        sample_frames: tuple[int, ...] = (2, 2, 4), classes: int = 5, *, live: bool = True, depth: int = 2
    ) -> SefarModel:
        torch.manual_seed(0)
        backbone = TimeSformer(sample_frames, create_stem("patch", 32, 16, 24), dim=24, depth=depth, heads=3)
        if live:
            for block in backbone.blocks:
                torch.nn.init.normal_(block.temporal_fc.weight, std=0.3)
        return SefarModel(backbone, FusionHead(len(sample_frames), 24, classes)).eval()

    return build


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """These models are so small that threads only wait for each other, badly so on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
