"""Recipes of adapters: which encoder, which language model, which clips, and three stages of training."""

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
    """Sizes of the language model that is trained from nothing.

    Attributes:
        vocabulary: entries of its tokenizer, at most.
        hidden: width.
        layers: depth.
        heads: attention heads.
        intermediate: width inside the feed-forward layers.
        context: most tokens of prompt and answer.
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
            raise ValueError(f"hidden {self.hidden} over {self.heads} heads must give an even width")
        return self


class LoraSettings(_Strict):
    """The low-rank change that stage 2 learns for a pretrained language model.

    Attributes:
        r: rank.
        alpha: scale.
        dropout: before the low-rank maps.
        target_modules: which linear maps; ``all-linear``, or names.
    """

    r: int = Field(default=16, ge=1)
    alpha: int = Field(default=32, ge=1)
    dropout: float = Field(default=0.05, ge=0, lt=1)
    target_modules: str | tuple[str, ...] = "all-linear"


class Stage(_Strict):
    """One stage of training; AdamW with a cosine schedule.

    Attributes:
        steps: optimiser steps; 0 leaves the stage out.
        batch_size: examples a step, of each process.
        accumulate: parts that a batch is worked off in, where it does not fit in memory.
        lr: highest learning rate.
        warmup: steps of its linear rise, as a share of all.
        weight_decay: of weight matrices.
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
    """The clips, and what is made of them.

    Attributes:
        root: folder that relative paths in the lists, and the lists themselves, are relative to.
        train: list of labelled clips.
        unlabel: list of clips without labels, which are given the classifier's; or None.
        test: list of clips that neither adapter nor encoder is trained on: the figures of the model card; or None.
        remap: replacements of path prefixes in the lists.
        views: views of each training clip; the first is the served one.
        scale: see `ViewSettings`.
        flip: see `ViewSettings`.
        threshold: least η of a pseudo-label that counts.
        questions: share of examples that are multiple-choice questions.
        attributes: share of examples that ask for a single attribute, where classes have attributes.
        hard: share of questions whose options are what the classifier finds most probable on some clip.
        near: share of questions whose options differ in few attributes; those of the rest are random.
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
                raise ValueError(f"{first} and {second} are shares of one whole; together they are more than 1")
        return self

    @property
    def view_settings(self) -> ViewSettings:
        """The views of training clips; the same for every seed of a run, so that they are computed once."""
        return ViewSettings(self.views, self.scale, self.flip)


class AdapterRecipe(_Strict):
    """One training of an adapter.

    Attributes:
        name: users address the adapter by it.
        out: folder of the run; the adapter is ``final`` in it.
        seed: of weights, order, wording and views.
        encoder: ONNX file of the encoder whose features are read.
        features: ``sefar``, or ``none``: the blind baseline, whose clips are all alike.
        cache: folder where features and tiny language models are kept between runs.
        language_model: folder or hub id of a pretrained causal language model; None trains a tiny one.
        tiny: sizes of that one.
        lora: stage 2 learns a LoRA of a pretrained language model; None leaves that model as it is, and then there
            is no stage 2. The tiny one is trained in full instead.
        precision: ``bf16`` autocast or ``fp32``.
        gradient_checkpointing: spend time to save memory; for large language models.
        data: the clips.
        language: stage 0, the tiny language model on text alone.
        projector: stage 1, the projector alone.
        together: stage 2, projector and language model.
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
            raise ValueError("lora is for a pretrained language_model; the tiny one is trained in full")
        return self

    @property
    def whole(self) -> bool:
        """Whether the adapter holds its language model, which nobody could load from elsewhere."""
        return self.language_model is None


def load_adapter_recipe(path: Path, overrides: Sequence[str] = ()) -> AdapterRecipe:
    """Read an adapter's recipe; see `sefar_training.recipe.read_recipe`.

    Raises:
        RecipeError: the file is not a YAML mapping, an override has no ``=``, or a key or value is wrong.
    """
    return read_recipe(path, AdapterRecipe, overrides)
