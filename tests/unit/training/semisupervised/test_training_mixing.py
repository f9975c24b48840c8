from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sefar_training.semisupervised import Mix, draw_mix, mix_targets, mix_tokens

ELEMENT_OF_FRAME = torch.tensor([0, 0, 1, 1, 2, 2, 2, 2])


@given(st.integers(1, 6), st.integers(2, 4), st.sampled_from([1, 4, 16]), st.floats(0.2, 20))
def test_every_element_keeps_exactly_the_share_that_labels_keep(b: int, e: int, n: int, alpha: float) -> None:
    mix = draw_mix(b, e, n, alpha)
    assert sorted(mix.other.tolist()) == list(range(b))
    assert mix.keep_BEN.shape == (b, e, n)
    assert torch.allclose(mix.keep_BEN.float().mean(dim=2), mix.share[:, None].expand(b, e))


def test_masks_are_tubes_and_differ_between_elements() -> None:
    torch.manual_seed(0)
    mix = draw_mix(8, 3, 16, 10.0)
    own = torch.arange(8.0)[:, None, None, None].expand(8, 8, 16, 1)
    mixed = mix_tokens(own, mix, ELEMENT_OF_FRAME)[..., 0]
    for frames in ([0, 1], [2, 3], [4, 5, 6, 7]):
        assert (mixed[:, frames] == mixed[:, frames[:1]]).all()
    moved = mix.other != torch.arange(8)
    assert (mixed[moved, 0] != mixed[moved, 2]).any()


def test_all_elements_are_mixed_with_the_same_other_clip() -> None:
    torch.manual_seed(1)
    mix = draw_mix(8, 3, 16, 10.0)
    own = torch.arange(8.0)[:, None, None, None].expand(8, 8, 16, 1)
    mixed = mix_tokens(own, mix, ELEMENT_OF_FRAME)[..., 0]
    targets = mix_targets(torch.eye(8), mix)
    for clip in range(8):
        assert set(mixed[clip].unique().tolist()) <= {float(clip), float(mix.other[clip])}
        share = (mixed[clip] == clip).float().mean()
        if mix.other[clip] != clip:
            assert targets[clip, clip] == pytest.approx(share.item())
            assert targets[clip, mix.other[clip]] == pytest.approx(1 - share.item())


def test_targets_and_weights_by_hand() -> None:
    mix = Mix(torch.tensor([1, 0]), torch.zeros(2, 1, 4, dtype=torch.bool), torch.tensor([0.25, 0.5]))
    assert mix_targets(torch.tensor([1.0, 0.0]), mix).tolist() == [0.25, 0.5]
    probabilities = torch.tensor([[0.8, 0.2], [0.0, 1.0]])
    assert torch.allclose(mix_targets(probabilities, mix), torch.tensor([[0.2, 0.8], [0.4, 0.6]]))


def test_ratio_concentrates_at_one_half_for_large_alpha() -> None:
    torch.manual_seed(0)
    near, far = draw_mix(500, 1, 100, 10.0).share, draw_mix(500, 1, 100, 0.5).share
    assert near.mean().item() == pytest.approx(0.5, abs=0.02)
    assert near.std() < far.std() / 2
