"""Temporal perturbation: what the strong view does to the order of a clip's frames (METHOD section 2).

A perturbation is a choice of frame numbers (or, for one ablation, of channels) and nothing else: it
moves whole frames along the time axis, so a clip's frames keep their common crop and colours.
"""

from __future__ import annotations

from typing import get_args

import torch
from torch import Tensor

from ..config import Perturbation


def frame_order(sample_frames: tuple[int, ...], kind: Perturbation, generator: torch.Generator | None = None) -> Tensor:
    """Where each of the F positions takes its frame from, int64 (F,).

    Args:
        sample_frames: frames per element, fine ones first, context last.
        kind: ``none`` and ``channel-flip`` leave time alone; ``moderate`` reverses every fine element and
            never touches the context, which keeps the cue of forward and backward; ``shuffle`` permutes every
            element, the context too; ``reverse-all`` reverses every element, the context too.
        generator: source of ``shuffle``'s permutations; None for torch's own.

    Raises:
        ValueError: if there is no such perturbation.
    """
    if kind not in get_args(Perturbation):
        raise ValueError(f"no perturbation {kind!r}; choose one of {', '.join(get_args(Perturbation))}")
    orders = []
    first = 0
    for element, n in enumerate(sample_frames):
        order = torch.arange(first, first + n)
        is_context = element == len(sample_frames) - 1
        if kind == "reverse-all" or (kind == "moderate" and not is_context):
            order = order.flip(0)
        elif kind == "shuffle":
            order = order[torch.randperm(n, generator=generator)]
        orders.append(order)
        first += n
    return torch.cat(orders)


def perturb(
    frames_BFHWC: Tensor,
    sample_frames: tuple[int, ...],
    kind: Perturbation,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Perturb a batch of clips.

    Args:
        frames_BFHWC: clips in element order, any dtype; axis 1 is time, axis 4 colour.
        sample_frames: frames per element, context last.
        kind: see `frame_order`. ``channel-flip`` reverses the colours of every frame and leaves time alone: what
            the authors' release does, whose axis 1 is colour. ``shuffle`` draws for each clip.
        generator: source of ``shuffle``'s permutations.

    Returns:
        Clips of the same shape.

    Raises:
        ValueError: if there is no such perturbation or F is not the sum of `sample_frames`.
    """
    if frames_BFHWC.shape[1] != sum(sample_frames):
        raise ValueError(f"{frames_BFHWC.shape[1]} frames a clip do not fit sample_frames {sample_frames}")
    if kind == "channel-flip":
        return frames_BFHWC.flip(4)
    if kind != "shuffle":
        return frames_BFHWC[:, frame_order(sample_frames, kind).to(frames_BFHWC.device)]
    orders = torch.stack([frame_order(sample_frames, kind, generator) for _ in frames_BFHWC]).to(frames_BFHWC.device)
    return frames_BFHWC[torch.arange(len(orders), device=orders.device)[:, None], orders]
