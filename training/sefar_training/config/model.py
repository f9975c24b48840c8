"""The part of a recipe about the model, its preprocessing and its regularisation."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from sefar_serve.pose.load import MAX_PERSONS
from sefar_serve.sampling import Layout, Sampling

from ..model import IMAGE_NETWORKS, VARIANTS, Architecture, BackboneName, Stream, VariantName
from .base import Rate, Strict

ORDERED_FRAMES: dict[str, tuple[int, ...]] = {"rgb": (1,) * 8, "pose": (1,) * 16}
"""Frames of a model with a frozen backbone, by stream, unless a recipe says otherwise."""


FROZEN_BACKBONES: dict[str, BackboneName] = {"rgb": "efficientnet-lite0", "pose": "coordinates"}
"""The frozen backbone of each stream."""


Rgb = tuple[float, float, float]


class ModelConfig(Strict):
    """The model and its preprocessing.

    Attributes:
        stream: what the model sees, ``rgb`` (pictures) or ``pose`` (the joints that a pose estimator finds).
        backbone: ``timesformer`` is trained. The method ``linear`` has a frozen one, ``efficientnet-lite0`` for ``rgb``
            and ``coordinates`` for ``pose``, which sets other defaults: frames in order, one each element, 8 of 192
            pixels or 16 of joints.
        variant: named sizes, see `sefar_training.model.VARIANTS`; if left out, ``tiny`` or ``pose-tiny``.
        architecture: sizes to use instead of the variant's, or None.
        sample_frames: frames per temporal element, fine elements first, context last.
        layout: where the frames of each element come from.
        size: side of the square model input in pixels, a multiple of the patch size. Only for ``rgb``, as are the next
            three.
        resize: short side in pixels that frames are scaled to at inference, before the central square is cropped.
        mean: per RGB channel in [0, 1].
        std: per RGB channel in [0, 1].
        persons: number of persons whose joints the model sees; only for ``pose``.
        dropout: rate between embedding and classifier, in training and in the Monte-Carlo samples behind η.
    """

    stream: Stream = "rgb"
    backbone: BackboneName = "timesformer"
    variant: VariantName = "tiny"
    architecture: Architecture | None = None
    sample_frames: tuple[int, ...] = (2, 2, 4)
    layout: Layout = "interleaved"
    size: int = Field(default=64, ge=16)
    resize: int = Field(default=72, ge=16)
    mean: Rgb = (0.45, 0.45, 0.45)
    std: Rgb = (0.225, 0.225, 0.225)
    persons: int = Field(default=1, ge=1, le=MAX_PERSONS)
    dropout: Rate = 0.5

    @property
    def sampling(self) -> Sampling:
        """The sampling as `sefar_serve.clip` takes it."""
        return Sampling(self.sample_frames, self.layout)

    @property
    def frozen(self) -> bool:
        """Whether the backbone is frozen."""
        return self.backbone != "timesformer"

    @property
    def sizes(self) -> Architecture:
        """The backbone's sizes: `architecture` if set, else the variant's."""
        return self.architecture or VARIANTS[self.variant]

    @property
    def sizes_name(self) -> str:
        """The variant's name, or width and depth if `architecture` is set, e.g. ``192x12``; ``linear`` if frozen."""
        if self.frozen:
            return "linear"
        return self.variant if self.architecture is None else f"{self.architecture.dim}x{self.architecture.depth}"

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, fields: Any) -> Any:
        if not isinstance(fields, dict):
            return fields
        if fields.get("stream") == "both":
            raise ValueError(
                "stream both is not trained; train one model with stream rgb and one with stream pose, then join them "
                "with `sefar fuse`"
            )
        defaults: dict[str, Any] = {}
        if fields.get("stream") == "pose":
            defaults["variant"] = "pose-tiny"
        if fields.get("backbone", "timesformer") != "timesformer":
            defaults |= {"sample_frames": ORDERED_FRAMES[fields.get("stream", "rgb")], "layout": "ordered"}
        if network := IMAGE_NETWORKS.get(fields.get("backbone")):
            size = fields.get("size", network.size)
            defaults |= {"size": size, "resize": size, "mean": network.mean, "std": network.std}
        return defaults | fields

    @model_validator(mode="after")
    def _consistent(self) -> ModelConfig:
        _ = self.sampling
        if self.frozen:
            return self._consistent_frozen()
        if self.sizes.stream != self.stream:
            fit = ", ".join(name for name, variant in VARIANTS.items() if variant.stream == self.stream)
            raise ValueError(
                f"variant {self.sizes_name} sees {self.sizes.stream}, but stream is {self.stream}; set stream to "
                f"{self.sizes.stream}, or variant to one of {fit}"
            )
        if self.stream == "pose":
            return self
        if self.resize < self.size:
            raise ValueError(f"resize {self.resize} is smaller than size {self.size}")
        patch = self.sizes.patch
        if self.size % patch:
            raise ValueError(f"size {self.size} is not a multiple of the patch size {patch}")
        return self

    def _consistent_frozen(self) -> ModelConfig:
        sees = "rgb" if self.backbone in IMAGE_NETWORKS else "pose"
        if sees != self.stream:
            raise ValueError(f"backbone {self.backbone} sees {sees}, but stream is {self.stream}; set stream to {sees}")
        if self.stream == "rgb" and self.resize < self.size:
            raise ValueError(f"resize {self.resize} is smaller than size {self.size}")
        if len(set(self.sample_frames)) > 1:
            raise ValueError(
                f"sample_frames {self.sample_frames}: a frozen backbone needs elements of the same number of frames"
            )
        return self


class RegularizationConfig(Strict):
    """Regularisation.

    Attributes:
        drop_path: rate of stochastic depth at the last layer; it rises linearly from 0 at the first.
        label_smoothing: share of the target that is spread over all classes.
        freeze_stem: keep the stem as in `init`, including batch statistics. Saves a quarter of `tiny`'s training
            time; a few labels could not improve the stem.
    """

    drop_path: Rate = 0.0
    label_smoothing: Rate = 0.0
    freeze_stem: bool = False
