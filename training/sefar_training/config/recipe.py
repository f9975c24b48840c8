"""A recipe, and how it is read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from ..recipe import read_recipe
from .base import Strict
from .data import DataConfig, JointViewsConfig
from .learning import (
    WITHOUT_UNLABELLED,
    LinearConfig,
    Method,
    OptimConfig,
    Perturbation,
    PretextConfig,
    SemiConfig,
)
from .model import FROZEN_BACKBONES, ModelConfig, RegularizationConfig


class TrainConfig(Strict):
    """One training run.

    Attributes:
        task: what to train: ``classify``, or a task that an installed package adds, such as SynthGym's ``pretext``.
        method: training method of ``classify``.
        out: folder of the run: log, resumable state and checkpoints.
        seed: seed of weights, order, sampling, views and dropout.
        init: checkpoint folder to take the backbone from, or None. For the method ``linear``, the file of the frozen
            backbone's weights; None for those of `sefar weights get`, which are downloaded if they are missing.
        checkpoint_every: epochs between resumable states.
        checkpoint_steps: steps between resumable states inside an epoch, for long epochs; None for none.
        trackers: Accelerate's trackers to send curves to, e.g. ``[tensorboard]``, which writes to `out`.
        model: the model and its preprocessing.
        regularization: regularisation.
        data: clips and augmentation.
        joint_views: augmentation of joints, for the stream ``pose``.
        optim: optimiser, learning rate and length.
        semi: how unlabelled clips are used.
        linear: options of the method ``linear``, which does not use `optim`, `regularization`, `semi` and
            `joint_views`.
        pretext: options of the task ``pretext``.
    """

    task: str = "classify"
    method: Method = "supervised"
    out: Path
    seed: int = Field(default=0, ge=0)
    init: Path | None = None
    checkpoint_every: int = Field(default=1, ge=1)
    checkpoint_steps: int | None = Field(default=None, ge=1)
    trackers: tuple[str, ...] = ()
    model: ModelConfig = ModelConfig()
    regularization: RegularizationConfig = RegularizationConfig()
    data: DataConfig
    joint_views: JointViewsConfig = JointViewsConfig()
    optim: OptimConfig
    semi: SemiConfig = SemiConfig()
    linear: LinearConfig = LinearConfig()
    pretext: PretextConfig = PretextConfig()

    @model_validator(mode="before")
    @classmethod
    def _linear_defaults(cls, fields: Any) -> Any:
        if not isinstance(fields, dict) or fields.get("method") != "linear":
            return fields
        model = fields.get("model", {})
        if isinstance(model, dict):
            model = {"backbone": FROZEN_BACKBONES.get(model.get("stream", "rgb"), "timesformer")} | model
        return {"optim": {"epochs": 1}} | fields | {"model": model}

    @model_validator(mode="after")
    def _backbone_fits_method(self) -> TrainConfig:
        if self.method == "linear" and self.task != "classify":
            raise ValueError(f"method linear classifies; task {self.task} needs method supervised")
        if self.model.frozen != (self.method == "linear"):
            if self.model.frozen:
                raise ValueError(f"model.backbone {self.model.backbone} is frozen and needs method linear")
            raise ValueError(
                f"method linear needs a frozen model.backbone, {FROZEN_BACKBONES[self.model.stream]} for stream "
                f"{self.model.stream}, not {self.model.backbone}"
            )
        return self

    @model_validator(mode="after")
    def _unlabelled_clips_are_used(self) -> TrainConfig:
        if self.uses_unlabelled and self.data.unlabel is None:
            raise ValueError(f"method {self.method} needs data.unlabel, the list of unlabelled clips")
        if self.uses_unlabelled and self.semi.start_epoch >= self.optim.epochs:
            raise ValueError(
                f"semi.start_epoch {self.semi.start_epoch} leaves no epochs with unlabelled clips; "
                f"optim.epochs is {self.optim.epochs}"
            )
        return self

    @model_validator(mode="after")
    def _patience_is_measured(self) -> TrainConfig:
        if self.optim.patience is not None and self.method != "linear" and self.data.val is None:
            raise ValueError("optim.patience needs data.val, the list that is measured after every epoch")
        return self

    @model_validator(mode="after")
    def _frozen_stem_is_trained(self) -> TrainConfig:
        if self.regularization.freeze_stem and self.init is None:
            raise ValueError(
                "regularization.freeze_stem keeps the stem of init, but init is null: random weights would be frozen; "
                "set regularization.freeze_stem to false, or init to a checkpoint"
            )
        return self

    @model_validator(mode="after")
    def _perturbation_fits_stream(self) -> TrainConfig:
        if self.model.stream == "pose" and self.semi.perturbation == "channel-flip":
            raise ValueError(
                "semi.perturbation channel-flip reverses the colours of frames, and joints have none; choose none, "
                "moderate, shuffle or reverse-all"
            )
        return self

    @model_validator(mode="after")
    def _true_joints_are_used(self) -> TrainConfig:
        if self.model.stream != "pose" and self.data.true_joints is not None:
            raise ValueError("data.true_joints needs model.stream pose; models of frames see no joints")
        return self

    @property
    def uses_unlabelled(self) -> bool:
        """Whether the run reads unlabelled clips."""
        return self.task == "classify" and self.method not in WITHOUT_UNLABELLED

    @property
    def perturbation(self) -> Perturbation:
        """Temporal perturbation of the strong view."""
        return self.semi.perturbation or ("moderate" if self.method == "sefar" else "none")

    @property
    def scale(self) -> tuple[int, int]:
        """Range of the training clips' short side, in pixels."""
        if self.data.scale is not None:
            return self.data.scale
        if self.method == "linear":
            # The served view has the whole short side, so weak views should not be far from it.
            return (self.model.size, round(self.model.size * 1.2))
        return (round(self.model.size * 256 / 224), round(self.model.size * 320 / 224))


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read a training recipe; see `sefar_training.recipe.read_recipe`.

    With ``data.root=…`` and without ``data.name=…`` among the overrides, the data set is named after the folder: the
    name in the recipe is that of other clips.

    Raises:
        RecipeError: the file is not a YAML mapping, an override has no ``=``, or a key or value is wrong.
    """
    changed = {override.partition("=")[0] for override in overrides}
    renamed = ["data.name=null"] if "data.root" in changed and "data.name" not in changed else []
    return read_recipe(path, TrainConfig, [*overrides, *renamed])
