"""Recipes of adapters: encoder, language model, clips, and the three stages of training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..recipe import read_recipe
from .features import ViewSettings

Share = Annotated[float, Field(ge=0, le=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TinyLanguageModel(_Strict):
    """Sizes of the language model that is trained from scratch.

    Attributes:
        vocabulary: largest number of tokenizer entries.
        hidden: width.
        layers: number of layers.
        heads: number of attention heads.
        intermediate: width of the feed-forward layers.
        context: largest number of tokens of prompt and answer.
    """

    vocabulary: int = Field(default=768, ge=300)
    hidden: int = Field(default=128, ge=8)
    layers: int = Field(default=4, ge=1)
    heads: int = Field(default=4, ge=1)
    intermediate: int = Field(default=352, ge=8)
    context: int = Field(default=512, ge=64)

    @model_validator(mode="after")
    def _divides(self) -> TinyLanguageModel:
        if self.hidden % self.heads or (self.hidden // self.heads) % 2:
            raise ValueError(f"hidden {self.hidden} divided by {self.heads} heads must be an even whole number")
        return self


class LoraSettings(_Strict):
    """The LoRA that stage 2 trains for a pretrained language model.

    Attributes:
        r: rank.
        alpha: scale.
        dropout: dropout before the low-rank layers.
        target_modules: linear layers to adapt: ``all-linear``, or names.
    """

    r: int = Field(default=16, ge=1)
    alpha: int = Field(default=32, ge=1)
    dropout: float = Field(default=0.05, ge=0, lt=1)
    target_modules: str | tuple[str, ...] = "all-linear"


class Stage(_Strict):
    """One stage of training, with AdamW and a cosine schedule.

    Attributes:
        steps: optimiser steps; 0 skips the stage.
        batch_size: examples per step and process.
        accumulate: parts that a batch is processed in, one after another, to save memory.
        lr: highest learning rate.
        warmup: steps of linear warm-up, as a share of `steps`.
        weight_decay: decay of weight matrices.
    """

    steps: int = Field(ge=0)
    batch_size: int = Field(default=32, ge=1)
    accumulate: int = Field(default=1, ge=1)
    lr: float = Field(default=1e-3, gt=0)
    warmup: Share = 0.05
    weight_decay: float = Field(default=0.01, ge=0)

    @model_validator(mode="after")
    def _divides(self) -> Stage:
        if self.batch_size % self.accumulate:
            raise ValueError(f"accumulate {self.accumulate} does not divide batch_size {self.batch_size}")
        return self


class AdapterData(_Strict):
    """The clips, and the examples that are made from them.

    Attributes:
        root: folder that the lists and relative paths in them are relative to.
        train: list of labelled clips.
        unlabel: list of unlabelled clips, which get pseudo-labels from the classifier; or None.
        test: list of clips that neither adapter nor encoder is trained on, for the results in the model card; or None.
        remap: replacements of path prefixes in the lists.
        views: views of each training clip; the first is the one used in serving.
        scale: see `ViewSettings`.
        flip: see `ViewSettings`.
        threshold: smallest η of a pseudo-label that is used.
        questions: share of examples that are multiple-choice questions.
        attributes: share of examples that ask about a single attribute, if classes have attributes.
        hard: share of questions whose options are the classifier's most probable classes for some clip.
        near: share of questions whose options differ in few attributes. All other questions have random options.
    """

    root: Path
    train: Path
    unlabel: Path | None = None
    test: Path | None = None
    remap: dict[str, str] = {}
    views: int = Field(default=4, ge=1)
    scale: tuple[int, int] | None = None
    flip: Share = 0.5
    threshold: Share = 0.5
    questions: Share = 0.4
    attributes: Share = 0.2
    hard: Share = 0.4
    near: Share = 0.2

    @model_validator(mode="after")
    def _shares(self) -> AdapterData:
        for first, second in (("questions", "attributes"), ("hard", "near")):
            if getattr(self, first) + getattr(self, second) > 1:
                raise ValueError(f"{first} and {second} are shares whose sum must not exceed 1")
        return self

    @property
    def view_settings(self) -> ViewSettings:
        """The views of training clips; independent of the run's seed, so that they are computed once."""
        return ViewSettings(self.views, self.scale, self.flip)


class AdapterRecipe(_Strict):
    """One training of an adapter.

    Attributes:
        name: the name that clients pass as `model`.
        out: folder of the run; the adapter is written to ``final`` in it.
        seed: seed of weights, order, wording and views.
        encoder: ONNX file of the encoder whose features the adapter reads.
        features: ``sefar``, or ``none`` for the blind baseline, whose features are zeros.
        cache: folder where features and tiny language models are kept between runs.
        language_model: folder or hub id of a pretrained causal language model; None trains a tiny one.
        tiny: sizes of the tiny language model.
        lora: the LoRA that stage 2 trains for a pretrained language model. With None the language model is frozen, and
            stage 2 is skipped. The tiny language model is trained in full.
        precision: ``bf16`` autocast or ``fp32``.
        gradient_checkpointing: trade time for memory; for large language models.
        data: the clips.
        language: stage 0: the tiny language model, on text only.
        projector: stage 1: the projector only.
        together: stage 2: projector and language model.
        log_every: steps between lines of the log.
    """

    name: str = "sefar-captioner"
    out: Path
    seed: int = Field(default=0, ge=0)
    encoder: Path
    features: Literal["sefar", "none"] = "sefar"
    cache: Path = Path("runs/adapter_cache")
    language_model: str | None = None
    tiny: TinyLanguageModel = TinyLanguageModel()
    lora: LoraSettings | None = None
    precision: Literal["bf16", "fp32"] = "fp32"
    gradient_checkpointing: bool = False
    data: AdapterData
    language: Stage = Stage(steps=1500)
    projector: Stage = Stage(steps=300)
    together: Stage = Stage(steps=1500)
    log_every: int = Field(default=50, ge=1)

    @model_validator(mode="after")
    def _one_language_model(self) -> AdapterRecipe:
        if self.language_model is None and self.lora is not None:
            raise ValueError("lora is for a pretrained language_model; the tiny language model is trained in full")
        return self

    @property
    def whole(self) -> bool:
        """Whether the adapter includes its language model: the tiny one exists nowhere else."""
        return self.language_model is None


def load_adapter_recipe(path: Path, overrides: Sequence[str] = ()) -> AdapterRecipe:
    """Read an adapter's recipe; see `sefar_training.recipe.read_recipe`.

    Raises:
        RecipeError: the file is not a YAML mapping, an override has no ``=``, or a key or value is wrong.
    """
    return read_recipe(path, AdapterRecipe, overrides)
