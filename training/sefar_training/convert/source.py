"""What every source has in common: sizes read from tensors, and tensors taken by name with none left over."""

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
"""TimeSformer's, for sources that do not say."""

BACKBONE = "backbone."
SHOWN = 8


class NamesError(ConversionError):
    """Tensors of a source and of our model do not match one to one.

    Attributes:
        leftover: names in the source that our model has no place for.
        missing: names, as the source would spell them, that our model needs and the source lacks.
        reshaped: names of tensors that have another shape than our model's.
    """

    def __init__(self, origin: str, leftover: list[str], missing: list[str], reshaped: Mapping[str, str]) -> None:
        self.leftover = leftover
        self.missing = missing
        self.reshaped = list(reshaped)
        told = [
            f"{what}: {', '.join(names[:SHOWN])}" + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
            for what, names in (
                ("no place in our model for", leftover),
                ("missing", missing),
                ("of another shape than our model's", list(reshaped.values())),
            )
            if names
        ]
        super().__init__(f"{origin} does not fit. Tensors {'; '.join(told)}")


@dataclass(frozen=True, kw_only=True)
class Source:
    """Weights of others and what they are.

    Attributes:
        origin: where they come from, for messages.
        state: tensors by the source's own names.
        architecture: sizes of the backbone.
        size: side in pixels of the frames they are for.
        sample_frames: frames per temporal element, context last.
        classes: rows of the source's classifier, or None where it has none.
        mean: per RGB channel on [0, 1].
        std: per RGB channel on [0, 1].
        left_out: names in `state` that are not carried over, by intention.
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
        """The source's name of our tensor, or None where it has no such tensor."""
        raise NotImplementedError

    def derived(self, carried: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors of ours that the source does not have by name but that follow from it, by our names."""
        return {}

    def carry(self, ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Take the source's tensors, by our names.

        Args:
            ours: every tensor of our model, for names and shapes.

        Raises:
            NamesError: if a tensor is left over on either side, or has another shape.
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
        """The same for frames of another size: position embeddings interpolated (bicubic), all else as it is.

        Raises:
            ConversionError: if `size` is not a multiple of the patch size.
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
    """Sizes that tensors tell by themselves."""

    patch: int
    dim: int
    depth: int
    size: int


def measure(state: Mapping[str, Any], spelled: Callable[[str], str | None], origin: str) -> Measured:
    """Read patch, width, depth and frame size from the shapes of a source's tensors.

    Args:
        state: tensors by the source's names.
        spelled: the source's name of our tensor.
        origin: where they come from, for messages.

    Raises:
        ConversionError: if the tensors are no transformer over square patches with a class token.
    """

    def shape(ours: str) -> tuple[int, ...]:
        name = spelled(BACKBONE + ours)
        if name not in state:
            raise ConversionError(f"{origin} is not what it is taken for: it has no tensor {name}")
        return tuple(state[name].shape)

    projection, positions = shape("patch_embed.proj.weight"), shape("pos_embed")
    if len(projection) != 4 or projection[1] != 3 or projection[2] != projection[3]:
        raise ConversionError(f"{origin} does not embed square patches of RGB pixels: its projection is {projection}")
    dim, patch = projection[0], projection[2]
    side = math.isqrt(max(positions[1] - 1, 0)) if len(positions) == 3 else 0
    if side < 1 or positions[1] != 1 + side**2:
        raise ConversionError(
            f"{origin} has no position embedding of a class token and a square of patches: it is {positions}"
        )
    depth = 0
    while spelled(f"{BACKBONE}blocks.{depth}.norm1.weight") in state:
        depth += 1
    return Measured(patch, dim, depth, side * patch)


def describe(measured: Measured, heads: int, origin: str) -> Architecture:
    """Put measured sizes and the number of heads together.

    Raises:
        ConversionError: if they contradict each other.
    """
    try:
        return Architecture(patch=measured.patch, dim=measured.dim, depth=measured.depth, heads=heads)
    except ValidationError as error:
        wrong = "; ".join(e["msg"].removeprefix("Value error, ") for e in error.errors())
        raise ConversionError(f"{origin}: {wrong}") from error


def rgb(value: Any, default: Rgb) -> Rgb:
    """Three numbers out of another project's settings, or the default where they are not that."""
    if isinstance(value, list | tuple) and len(value) == 3 and all(isinstance(v, int | float) for v in value):
        return (float(value[0]), float(value[1]), float(value[2]))
    return default
