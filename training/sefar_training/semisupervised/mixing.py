"""Tube-token mixing after SVFormer: combines two clips by swapping tokens along tubes through time."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Mix(NamedTuple):
    """How B clips are mixed with other clips of the batch."""

    other: Tensor
    """int64 (B,): the clip that each is mixed with; the same for all elements and for the labels."""
    keep_BEN: Tensor
    """bool: token positions of each element that a clip keeps; the rest comes from the other clip."""
    share: Tensor
    """λ (B,) in [0, 1]: share of positions kept, the same for every element of a clip."""


def draw_mix(clips: int, elements: int, tokens: int, alpha: float, device: torch.device | None = None) -> Mix:
    """Draw partners, ratios λ ~ Beta(α, α), and for each element a mask of round(λ·N) positions.

    The returned λ is the share that is actually kept, so that targets are mixed in the same ratio as tokens.

    Args:
        clips: number of clips B.
        elements: number of elements E; each has its own mask.
        tokens: token positions of a frame N.
        alpha: α of the Beta distribution.
        device: device of the tensors.
    """
    concentration = torch.full((clips,), alpha, device=device)
    kept = (torch.distributions.Beta(concentration, concentration).sample() * tokens).round()
    rank_BEN = torch.rand(clips, elements, tokens, device=device).argsort(dim=-1).argsort(dim=-1)
    return Mix(torch.randperm(clips, device=device), rank_BEN < kept[:, None, None], kept / tokens)


def mix_tokens(x_BFND: Tensor, mix: Mix, element_of_frame: Tensor) -> Tensor:
    """Mix space tokens (patches or joints). All frames of an element use that element's mask.

    Args:
        x_BFND: embedded patches or joints in element order.
        mix: partners and masks.
        element_of_frame: element number of each of the F positions, int64 (F,).
    """
    keep_BFN = mix.keep_BEN.index_select(1, element_of_frame)
    return torch.where(keep_BFN[..., None], x_BFND, x_BFND[mix.other])


def mix_targets(target: Tensor, mix: Mix) -> Tensor:
    """λ·own + (1 − λ)·other, for targets (B,K) or weights (B,)."""
    share = mix.share.reshape(-1, *[1] * (target.ndim - 1))
    return share * target + (1 - share) * target[mix.other]
