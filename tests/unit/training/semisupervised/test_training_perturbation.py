from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sefar_training.semisupervised import frame_order, perturb

KINDS = ("none", "moderate", "shuffle", "reverse-all", "channel-flip")
elements = st.lists(st.integers(1, 5), min_size=2, max_size=5).map(tuple)


def clips(sample_frames: tuple[int, ...] = (2, 2, 4), count: int = 3) -> torch.Tensor:
    """Clips in which no two frames, rows, columns or colours are alike."""
    shape = (count, sum(sample_frames), 4, 5, 3)
    return torch.arange(torch.Size(shape).numel()).reshape(shape)


def test_orders_by_hand() -> None:
    assert frame_order((2, 2, 4), "none").tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    assert frame_order((2, 2, 4), "moderate").tolist() == [1, 0, 3, 2, 4, 5, 6, 7]
    assert frame_order((3, 1, 2, 2), "moderate").tolist() == [2, 1, 0, 3, 5, 4, 6, 7]
    assert frame_order((2, 2, 4), "reverse-all").tolist() == [1, 0, 3, 2, 7, 6, 5, 4]


@given(elements)
def test_moderate_reverses_fine_elements_and_never_moves_the_context(sample_frames: tuple[int, ...]) -> None:
    before = clips(sample_frames)
    after = perturb(before, sample_frames, "moderate")
    context = sample_frames[-1]
    assert torch.equal(after[:, -context:], before[:, -context:])
    first = 0
    for n in sample_frames[:-1]:
        assert torch.equal(after[:, first : first + n], before[:, first : first + n].flip(1))
        first += n


@given(elements, st.sampled_from(["none", "moderate", "shuffle", "reverse-all"]))
def test_frames_move_whole_inside_their_element_and_only_in_time(sample_frames: tuple[int, ...], kind: str) -> None:
    before = clips(sample_frames)
    after = perturb(before, sample_frames, kind)
    assert after.shape == before.shape
    # A frame that still equals one of the same clip and element has kept its rows, columns and colours.
    element = torch.repeat_interleave(torch.arange(len(sample_frames)), torch.tensor(sample_frames))
    for clip in range(len(before)):
        for position in range(before.shape[1]):
            same = [j for j in range(before.shape[1]) if torch.equal(after[clip, position], before[clip, j])]
            assert len(same) == 1
            assert element[same[0]] == element[position]


def test_shuffle_moves_the_context_too_and_differs_between_clips() -> None:
    before = clips((3, 4), count=20)
    after = perturb(before, (3, 4), "shuffle", torch.Generator().manual_seed(0))
    moved = (after != before).flatten(2).any(dim=2)
    assert moved[:, :3].any() and moved[:, 3:].any()
    offsets = after[:, :, 0, 0, 0] - before[:, :1, 0, 0, 0]
    assert len({tuple(row.tolist()) for row in offsets}) > 5
    again = perturb(before, (3, 4), "shuffle", torch.Generator().manual_seed(0))
    assert torch.equal(after, again)


def test_channel_flip_reverses_colours_but_not_time() -> None:
    before = clips()
    after = perturb(before, (2, 2, 4), "channel-flip")
    assert torch.equal(after, before[..., [2, 1, 0]])


@pytest.mark.parametrize("kind", KINDS)
def test_perturbing_leaves_the_given_clips_alone(kind: str) -> None:
    before = clips()
    perturb(before, (2, 2, 4), kind)
    assert torch.equal(before, clips())


def test_wrong_kinds_and_lengths_are_named() -> None:
    with pytest.raises(ValueError, match=r"no perturbation 'backwards'; choose one of none, moderate"):
        perturb(clips(), (2, 2, 4), "backwards")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"clips have 8 frames, which does not fit sample_frames \(2, 4\)"):
        perturb(clips(), (2, 4), "moderate")
