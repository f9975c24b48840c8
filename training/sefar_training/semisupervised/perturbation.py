"""Temporal perturbation: how the strong view reorders a clip's frames.

A perturbation only permutes frame numbers (or, for one ablation, channels). It moves whole frames along the time axis,
so the frames of a clip keep the same crop and colours. Joints are permuted in the same way.
"""

from __future__ import annotations

from typing import get_args

import torch
from torch import Tensor

from ..config import Perturbation


def frame_order(sample_frames: tuple[int, ...], kind: Perturbation, generator: torch.Generator | None = None) -> Tensor:
    """The frame number that each of the F positions takes, int64 (F,).

    Args:
        sample_frames: frames per element, fine ones first, context last.
        kind: ``none`` and ``channel-flip`` keep the order. ``moderate`` reverses every fine element but not the
            context, which still shows the direction of time. ``shuffle`` permutes every element, and ``reverse-all``
            reverses every element, both including the context.
        generator: source of ``shuffle``'s permutations; None for torch's default.

    Raises:
        ValueError: there is no such perturbation.
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
    inputs: Tensor,
    sample_frames: tuple[int, ...],
    kind: Perturbation,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Perturb a batch of clips.

    Args:
        inputs: clips in element order, frames (B,F,H,W,3) or joints (B,F,P,J,4), any dtype.
        sample_frames: frames per element, context last.
        kind: see `frame_order`. ``channel-flip`` reverses the colour channels of every frame and keeps the order, which
            is what the authors' release does: its axis 1 is colour. It is only for frames. ``shuffle`` draws a
            permutation for each clip.
        generator: source of ``shuffle``'s permutations.

    Returns:
        Clips of the same shape.

    Raises:
        ValueError: there is no such perturbation, or F is not the sum of `sample_frames`.
    """
    if inputs.shape[1] != sum(sample_frames):
        raise ValueError(f"clips have {inputs.shape[1]} frames, which does not fit sample_frames {sample_frames}")
    if kind == "channel-flip":
        return inputs.flip(4)
    if kind != "shuffle":
        return inputs[:, frame_order(sample_frames, kind).to(inputs.device)]
    orders = torch.stack([frame_order(sample_frames, kind, generator) for _ in inputs]).to(inputs.device)
    return inputs[torch.arange(len(orders), device=orders.device)[:, None], orders]
