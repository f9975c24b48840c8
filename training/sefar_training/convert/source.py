"""What all sources share: sizes inferred from tensors, and a one-to-one mapping of tensors by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Self

from pydantic import ValidationError
from timm.layers import resample_abs_pos_embed
from torch import Tensor

from ..model import Architecture
from .files import ConversionError

Rgb = tuple[float, float, float]

MEAN: Rgb = (0.45, 0.45, 0.45)
STD: Rgb = (0.225, 0.225, 0.225)
"""TimeSformer's values, for sources that do not state theirs."""

BACKBONE = "backbone."
SHOWN = 8


class NamesError(ConversionError):
    """The tensors of a source and of our model do not match one to one.

    Attributes:
        leftover: names in the source that our model does not have.
        missing: names in the source's convention that our model needs and the source lacks.
        reshaped: names of tensors with a different shape than in our model.
    """

    def __init__(self, origin: str, leftover: list[str], missing: list[str], reshaped: Mapping[str, str]) -> None:
        self.leftover = leftover
        self.missing = missing
        self.reshaped = list(reshaped)
        told = [
            f"{what}: {', '.join(names[:SHOWN])}" + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
            for what, names in (
                ("unknown tensors", leftover),
                ("missing tensors", missing),
                ("tensors of the wrong shape", list(reshaped.values())),
            )
            if names
        ]
        super().__init__(f"{origin} does not fit the model: {'; '.join(told)}")


@dataclass(frozen=True, kw_only=True)
class Source:
    """Pretrained weights and their description.

    Attributes:
        origin: where they come from, for messages.
        state: tensors, under the source's names.
        architecture: sizes of the backbone.
        size: side of the input frames in pixels.
        sample_frames: frames per temporal element, context last.
        classes: rows of the source's classifier, or None if it has none.
        mean: per RGB channel in [0, 1].
        std: per RGB channel in [0, 1].
        left_out: names in `state` that are deliberately not converted.
    """

    origin: str
    state: Mapping[str, Tensor] = field(repr=False)
    architecture: Architecture
    size: int
    sample_frames: tuple[int, ...]
    classes: int | None
    mean: Rgb = MEAN
    std: Rgb = STD
    left_out: frozenset[str] = frozenset()

    def spelled(self, ours: str) -> str | None:
        """The source's name for our tensor, or None if it has no such tensor."""
        raise NotImplementedError

    def derived(self, carried: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors that the source does not have but that follow from its tensors, under our names."""
        return {}

    def carry(self, ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The source's tensors, under our names.

        Args:
            ours: every tensor of our model, for names and shapes.

        Raises:
            NamesError: a tensor has no counterpart, on either side, or a different shape.
        """
        names = {name: theirs for name in ours if (theirs := self.spelled(name)) is not None}
        wanted = set(names.values())
        leftover = sorted(self.state.keys() - wanted - self.left_out)
        missing = sorted(wanted - self.state.keys())
        reshaped = {
            theirs: f"{theirs} {tuple(self.state[theirs].shape)} not {tuple(ours[name].shape)}"
            for name, theirs in names.items()
            if theirs in self.state and self.state[theirs].shape != ours[name].shape
        }
        if leftover or missing or reshaped:
            raise NamesError(self.origin, leftover, missing, reshaped)
        return {name: self.state[theirs] for name, theirs in names.items()}

    def resized(self, size: int) -> Self:
        """The same weights for another frame size, with position embeddings interpolated (bicubic).

        Raises:
            ConversionError: `size` is not a multiple of the patch size.
        """
        patch = self.architecture.patch
        if size == self.size:
            return self
        if size < patch or size % patch:
            raise ConversionError(f"size {size} is not a multiple of the patch size {patch} of {self.origin}")
        name = self.spelled(BACKBONE + "pos_embed")
        assert name is not None
        grid = (size // patch, size // patch)
        return replace(self, size=size, state={**self.state, name: resample_abs_pos_embed(self.state[name], grid)})


class Measured(NamedTuple):
    """Sizes that follow from the shapes of tensors."""

    patch: int
    dim: int
    depth: int
    size: int


def measure(state: Mapping[str, Any], spelled: Callable[[str], str | None], origin: str) -> Measured:
    """Infer patch size, width, depth and frame size from the shapes of a source's tensors.

    Args:
        state: tensors, under the source's names.
        spelled: gives the source's name for our tensor.
        origin: where they come from, for messages.

    Raises:
        ConversionError: the tensors are not a transformer over square patches with a class token.
    """

    def shape(ours: str) -> tuple[int, ...]:
        name = spelled(BACKBONE + ours)
        if name not in state:
            raise ConversionError(f"{origin} does not have the expected format: it has no tensor {name}")
        return tuple(state[name].shape)

    projection, positions = shape("patch_embed.proj.weight"), shape("pos_embed")
    if len(projection) != 4 or projection[1] != 3 or projection[2] != projection[3]:
        raise ConversionError(f"{origin} does not embed square patches of RGB pixels: its projection is {projection}")
    dim, patch = projection[0], projection[2]
    side = math.isqrt(max(positions[1] - 1, 0)) if len(positions) == 3 else 0
    if side < 1 or positions[1] != 1 + side**2:
        raise ConversionError(
            f"{origin} has no position embedding for a class token and a square of patches: its shape is {positions}"
        )
    depth = 0
    while spelled(f"{BACKBONE}blocks.{depth}.norm1.weight") in state:
        depth += 1
    return Measured(patch, dim, depth, side * patch)


def describe(measured: Measured, heads: int, origin: str) -> Architecture:
    """Combine measured sizes with the number of heads.

    Raises:
        ConversionError: they contradict each other.
    """
    try:
        return Architecture(patch=measured.patch, dim=measured.dim, depth=measured.depth, heads=heads)
    except ValidationError as error:
        wrong = "; ".join(e["msg"].removeprefix("Value error, ") for e in error.errors())
        raise ConversionError(f"{origin}: {wrong}") from error


def rgb(value: Any, default: Rgb) -> Rgb:
    """Read three numbers from another project's settings; the default if the value is anything else."""
    if isinstance(value, list | tuple) and len(value) == 3 and all(isinstance(v, int | float) for v in value):
        return (float(value[0]), float(value[1]), float(value[2]))
    return default
