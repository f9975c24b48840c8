"""Recipes: what a training run is, as typed objects that are validated before anything starts.

A recipe is a YAML file. `load_recipe` reads it, applies `key=value` overrides with dotted keys, and
names the offending key when something does not fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sefar_serve.clip.sampling import Layout, Sampling

from .model import VARIANTS, VariantName

Rgb = tuple[float, float, float]
Rate = Annotated[float, Field(ge=0, lt=1)]


class RecipeError(ValueError):
    """A recipe cannot be read or contradicts itself; the message names file and key."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelConfig(_Strict):
    """The model and the preprocessing it is trained for.

    Attributes:
        variant: named sizes, see `sefar_training.model.VARIANTS`.
        sample_frames: frames per temporal element, fine ones first, context last.
        layout: where the elements' frames come from.
        size: side in pixels of the square the model sees; a multiple of the patch size.
        resize: short side in pixels that frames are scaled to at inference, before the central square.
        mean: per RGB channel on [0, 1].
        std: per RGB channel on [0, 1].
    """

    variant: VariantName = "tiny"
    sample_frames: tuple[int, ...] = (2, 2, 4)
    layout: Layout = "interleaved"
    size: int = Field(default=64, ge=16)
    resize: int = Field(default=72, ge=16)
    mean: Rgb = (0.45, 0.45, 0.45)
    std: Rgb = (0.225, 0.225, 0.225)

    @property
    def sampling(self) -> Sampling:
        """The sampling as `sefar_serve.clip` takes it."""
        return Sampling(self.sample_frames, self.layout)

    @model_validator(mode="after")
    def _consistent(self) -> ModelConfig:
        _ = self.sampling
        if self.resize < self.size:
            raise ValueError(f"resize {self.resize} is smaller than size {self.size}")
        patch = VARIANTS[self.variant].patch
        if self.size % patch:
            raise ValueError(f"size {self.size} is not a multiple of the variant's patch size {patch}")
        return self


class RegularizationConfig(_Strict):
    """What keeps the model from memorising.

    Attributes:
        dropout: rate between embedding and classifier.
        drop_path: stochastic depth at the last layer, rising linearly from 0 at the first.
        label_smoothing: share of the target spread over all classes.
    """

    dropout: Rate = 0.5
    drop_path: Rate = 0.0
    label_smoothing: Rate = 0.0


class DataConfig(_Strict):
    """Where the clips are and how they are varied.

    Attributes:
        name: what the data set is called, for people to read.
        root: folder that relative paths in the lists, and the files below, are relative to.
        train: list file of `path label` lines.
        val: list file evaluated after every epoch, or None.
        test: list file evaluated at the end, or None.
        labels: class names, line n is class n.
        classes: JSON with attributes and opposites per class, or None where the data set has none.
        poses: folder of per-frame pose targets (``<split>.npz``); needed by the pretext alone.
        remap: replacements of path prefixes in the lists, e.g. ``{"/root/video/": "videos/"}``.
        scale: range of the short side in pixels that training clips are scaled to before a random
            square of the model's size is cut; None for the paper's 256-320 to 224, in proportion.
        flip: probability of mirroring a training clip left to right.
        cache_gb: memory that decoded training frames may take; 0 decodes every clip anew each epoch.
        workers: processes preparing batches; 0 prepares them in the training process.
        max_broken: training clips that may fail to decode before the run stops; each is logged by name.
    """

    name: str = "unnamed"
    root: Path
    train: Path
    val: Path | None = None
    test: Path | None = None
    labels: Path = Path("labels.txt")
    classes: Path | None = None
    poses: Path | None = None
    remap: dict[str, str] = {}
    scale: tuple[int, int] | None = None
    flip: Annotated[float, Field(ge=0, le=1)] = 0.5
    cache_gb: float = Field(default=0.0, ge=0)
    workers: int = Field(default=0, ge=0)
    max_broken: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _ordered(self) -> DataConfig:
        if self.scale is not None and self.scale[0] > self.scale[1]:
            raise ValueError(f"scale {self.scale} is not in ascending order")
        return self


class OptimConfig(_Strict):
    """AdamW under a warm-up and a cosine.

    Attributes:
        epochs: passes over the training list.
        batch_size: clips a step.
        lr: learning rate at its highest.
        weight_decay: of weight matrices; biases, norms and embeddings have none.
        warmup_epochs: epochs of linear rise of the learning rate, fractions allowed.
        final_lr: learning rate at the end as a share of `lr`.
        clip_grad: largest gradient norm.
        precision: ``bf16`` autocast or ``fp32``.
    """

    epochs: int = Field(ge=1)
    batch_size: int = Field(default=32, ge=1)
    lr: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.05, ge=0)
    warmup_epochs: float = Field(default=1.0, ge=0)
    final_lr: float = Field(default=0.01, ge=0, le=1)
    clip_grad: float = Field(default=1.0, gt=0)
    precision: Literal["bf16", "fp32"] = "bf16"


class PretextConfig(_Strict):
    """The frame-level pretext: regress the renderer's pose of every frame.

    Attributes:
        targets: names of the pose columns regressed; empty for all of them.
    """

    targets: tuple[str, ...] = ()


class TrainConfig(_Strict):
    """One training run.

    Attributes:
        task: ``classify`` (supervised) or ``pretext`` (pose of every frame).
        out: folder of the run: log, resumable state and the final checkpoint.
        seed: of weights, order, sampling, views and dropout.
        init: checkpoint folder whose backbone the run starts from, or None.
        resume: continue the run found in `out`, if there is one.
        checkpoint_every: epochs between resumable states.
    """

    task: Literal["classify", "pretext"] = "classify"
    out: Path
    seed: int = Field(default=0, ge=0)
    init: Path | None = None
    resume: bool = False
    checkpoint_every: int = Field(default=1, ge=1)
    model: ModelConfig = ModelConfig()
    regularization: RegularizationConfig = RegularizationConfig()
    data: DataConfig
    optim: OptimConfig
    pretext: PretextConfig = PretextConfig()

    @model_validator(mode="after")
    def _task_has_data(self) -> TrainConfig:
        if self.task == "pretext" and self.data.poses is None:
            raise ValueError("task pretext needs data.poses, the folder of pose targets")
        return self

    @property
    def scale(self) -> tuple[int, int]:
        """Range of the training clips' short side in pixels."""
        if self.data.scale is not None:
            return self.data.scale
        return (round(self.model.size * 256 / 224), round(self.model.size * 320 / 224))


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read a recipe.

    Args:
        path: YAML file of `TrainConfig`'s fields.
        overrides: ``dotted.key=value`` strings; the value is read as YAML (``3``, ``true``, ``[2, 2, 4]``,
            ``null``).

    Raises:
        RecipeError: if the file is no YAML mapping, an override has no ``=``, or a key or value is wrong.
    """
    try:
        fields = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise RecipeError(f"{path} is not YAML: {error}") from error
    if not isinstance(fields, dict):
        raise RecipeError(f"{path} is not a recipe: its top level must be a mapping of keys")
    for override in overrides:
        _apply(fields, override)
    try:
        return TrainConfig(**fields)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'recipe'}: {e['msg']}" for e in error.errors())
        raise RecipeError(f"{path}: {wrong}") from error


def _apply(fields: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise RecipeError(f"override {override!r} is not of the form key=value, e.g. optim.epochs=3")
    *parents, last = key.split(".")
    target = fields
    for parent in parents:
        value = target.setdefault(parent, {})
        if not isinstance(value, dict):
            raise RecipeError(f"override {override!r}: {parent} is a value, not a group of keys")
        target = value
    try:
        target[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"override {override!r}: the value is not YAML") from error
