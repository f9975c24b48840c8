"""Recipes: what a training run is, as typed objects that are validated before anything starts.

A recipe is a YAML file. `load_recipe` reads it, applies `key=value` overrides with dotted keys, and
names the offending key when something does not fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sefar_serve.sampling import Layout, Sampling

from .model import VARIANTS, Architecture, VariantName
from .recipe import read_recipe

Perturbation = Literal["none", "moderate", "shuffle", "reverse-all", "channel-flip"]
"""What the strong view does to time (METHOD section 2)."""

Rgb = tuple[float, float, float]
Rate = Annotated[float, Field(ge=0, lt=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelConfig(_Strict):
    """The model and the preprocessing it is trained for.

    Attributes:
        variant: named sizes, see `sefar_training.model.VARIANTS`.
        architecture: sizes that replace the variant's, for a model that has no name; or None.
        sample_frames: frames per temporal element, fine ones first, context last.
        layout: where the elements' frames come from.
        size: side in pixels of the square the model sees; a multiple of the patch size.
        resize: short side in pixels that frames are scaled to at inference, before the central square.
        mean: per RGB channel on [0, 1].
        std: per RGB channel on [0, 1].
        dropout: rate between embedding and classifier, in training and in the Monte-Carlo samples that η comes from.
    """

    variant: VariantName = "tiny"
    architecture: Architecture | None = None
    sample_frames: tuple[int, ...] = (2, 2, 4)
    layout: Layout = "interleaved"
    size: int = Field(default=64, ge=16)
    resize: int = Field(default=72, ge=16)
    mean: Rgb = (0.45, 0.45, 0.45)
    std: Rgb = (0.225, 0.225, 0.225)
    dropout: Rate = 0.5

    @property
    def sampling(self) -> Sampling:
        """The sampling as `sefar_serve.clip` takes it."""
        return Sampling(self.sample_frames, self.layout)

    @property
    def sizes(self) -> Architecture:
        """The backbone's sizes: the variant's, or those that replace them."""
        return self.architecture or VARIANTS[self.variant]

    @property
    def sizes_name(self) -> str:
        """The variant's name, or width and depth where the sizes have no name, e.g. ``192x12``."""
        return self.variant if self.architecture is None else f"{self.architecture.dim}x{self.architecture.depth}"

    @model_validator(mode="after")
    def _consistent(self) -> ModelConfig:
        _ = self.sampling
        if self.resize < self.size:
            raise ValueError(f"resize {self.resize} is smaller than size {self.size}")
        patch = self.sizes.patch
        if self.size % patch:
            raise ValueError(f"size {self.size} is not a multiple of the patch size {patch}")
        return self


class RegularizationConfig(_Strict):
    """What keeps the model from memorising.

    Attributes:
        drop_path: stochastic depth at the last layer, rising linearly from 0 at the first.
        label_smoothing: share of the target spread over all classes.
        freeze_stem: leave what turns pixels into tokens as `init` made it, batch statistics included; a quarter
            of `tiny`'s training time, and nothing that a few labels could teach it better.
    """

    drop_path: Rate = 0.0
    label_smoothing: Rate = 0.0
    freeze_stem: bool = False


class DataConfig(_Strict):
    """Where the clips are and how they are varied.

    A recipe may name the folder of its lists once, as ``lists``: the four lists are then relative to it.

    Attributes:
        name: what the data set is called, for people to read.
        root: folder that relative paths in the lists, and the files below, are relative to.
        train: list file of `path label` lines.
        unlabel: list file of clips without labels (their numbers, where given, only serve to tell how often
            a pseudo-label is right), or None; needed by every method but ``supervised``.
        val: list file evaluated after every epoch, or None.
        test: list file evaluated at the end, or None.
        labels: class names, line n is class n; None numbers the classes up to the highest in the lists.
        classes: JSON with attributes and opposites per class, or None where the data set has none.
        poses: ``.npz`` file of per-frame pose targets; needed by the pretext alone.
        remap: replacements of path prefixes in the lists, e.g. ``{"/root/video/": "videos/"}``.
        scale: range of the short side in pixels that training clips are scaled to before a random
            square of the model's size is cut; None for the paper's 256-320 to 224, in proportion.
        flip: probability of mirroring a training clip left to right.
        strong: strength on [0, 1] of the strong view's colour jitter, blur and erasing; 0 is the weak
            view's own range, as in the paper.
        cache_gb: memory that the decoded frames of each list may take; 0 decodes every clip anew each epoch.
        workers: processes preparing batches; 0 prepares them in the training process.
        max_broken: training clips that may fail to decode before the run stops; each is logged by name.
    """

    name: str = "unnamed"
    root: Path
    train: Path
    unlabel: Path | None = None
    val: Path | None = None
    test: Path | None = None
    labels: Path | None = Path("labels.txt")
    classes: Path | None = None
    poses: Path | None = None
    remap: dict[str, str] = {}
    scale: tuple[int, int] | None = None
    flip: Annotated[float, Field(ge=0, le=1)] = 0.5
    strong: Annotated[float, Field(ge=0, le=1)] = 0.0
    cache_gb: float = Field(default=0.0, ge=0)
    workers: int = Field(default=0, ge=0)
    max_broken: int = Field(default=0, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _lists_in_one_folder(cls, fields: Any) -> Any:
        if not isinstance(fields, dict) or "lists" not in fields:
            return fields
        # Resolved here, so that a recipe written back is complete in itself.
        folder = fields["lists"]
        if not isinstance(folder, str | Path):
            raise ValueError("lists is the folder of the lists")
        lists = {key: Path(folder) / fields[key] for key in ("train", "unlabel", "val", "test") if fields.get(key)}
        return {key: value for key, value in fields.items() if key != "lists"} | lists

    @model_validator(mode="after")
    def _ordered(self) -> DataConfig:
        if self.scale is not None and self.scale[0] > self.scale[1]:
            raise ValueError(f"scale {self.scale} is not in ascending order")
        return self


class OptimConfig(_Strict):
    """Optimiser, learning rate and length of a run.

    Attributes:
        epochs: passes over the training clips: over the unlabelled list where a method uses one.
        steps_per_epoch: length of an epoch in steps; None for one pass. Lists shorter than that are gone
            through again in another order, so that methods can be compared at an equal number of steps.
        batch_size: labelled clips a step, over all processes.
        accumulate: parts a batch is worked off in, one after the other, where it does not fit in memory.
        optimizer: ``adamw``, or ``sgd`` with Nesterov-free momentum as in the paper.
        momentum: of ``sgd``.
        lr: learning rate at its highest.
        weight_decay: of weight matrices; biases, norms and embeddings have none.
        warmup_epochs: epochs of linear rise of the learning rate, fractions allowed.
        schedule: ``cosine``, or ``steps``: at each of `milestones` the rate becomes `lr` times the
            next power of 0.1 (the paper: 25 and 28 of 30 epochs).
        milestones: epochs of ``steps``, ascending.
        final_lr: learning rate at the end of ``cosine`` as a share of `lr`.
        clip_grad: largest gradient norm; None for any.
        precision: ``bf16`` autocast or ``fp32``.
    """

    epochs: int = Field(ge=1)
    steps_per_epoch: int | None = Field(default=None, ge=1)
    batch_size: int = Field(default=32, ge=1)
    accumulate: int = Field(default=1, ge=1)
    optimizer: Literal["adamw", "sgd"] = "adamw"
    momentum: Rate = 0.9
    lr: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.05, ge=0)
    warmup_epochs: float = Field(default=1.0, ge=0)
    schedule: Literal["cosine", "steps"] = "cosine"
    milestones: tuple[int, ...] = ()
    final_lr: float = Field(default=0.01, ge=0, le=1)
    clip_grad: float | None = Field(default=1.0, gt=0)
    precision: Literal["bf16", "fp32"] = "bf16"

    @model_validator(mode="after")
    def _consistent(self) -> OptimConfig:
        if (self.schedule == "steps") != bool(self.milestones):
            raise ValueError("schedule steps needs milestones, and milestones need schedule: steps")
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"milestones {self.milestones} are not in ascending order")
        return self


Method = Literal["supervised", "fixmatch", "flexmatch", "svformer", "sefar"]
"""Ways to train; all but ``supervised`` use unlabelled clips."""


class SemiConfig(_Strict):
    """How unlabelled clips are used (METHOD section 4). A method takes what it needs of this.

    Attributes:
        batch_size: unlabelled clips a step, over all processes.
        start_epoch: epochs of labelled clips alone before the first pseudo-label (the paper's warm-up).
        ramp: raise the unlabelled losses by ξ = sin(π/2 · (epoch + 1 − start)/(epochs − start)); without it ξ is 1.
        pseudo_weight: γ1, of the pseudo-label loss.
        mix_weight: γ2, of the mixing loss (``svformer``, ``sefar``).
        mix_alpha: the mixing ratio is drawn from Beta(α, α).
        mc_samples: T, Monte-Carlo dropout predictions of the teacher (``sefar``).
        regulation: weigh pseudo-labels by η (``sefar``); off, all weigh 1, as an ablation.
        perturbation: what the strong view does to time; None for the method's own: ``moderate`` for
            ``sefar``, ``none`` for the others.
        threshold: least probability of a pseudo-label that counts (``fixmatch``, ``flexmatch``, ``svformer``).
        teacher_decay: highest decay of the exponential moving average of weights.
        teacher_warmup: let the decay n steps on be at most 1 − (n + 1)^(−2/3) (timm's ModelEmaV3), for runs too short
            for theirs; without it the average is a copy of the student until `start_epoch`, then has the full decay.
    """

    batch_size: int = Field(default=32, ge=1)
    start_epoch: int = Field(default=5, ge=0)
    ramp: bool = True
    pseudo_weight: float = Field(default=2.0, ge=0)
    mix_weight: float = Field(default=2.0, ge=0)
    mix_alpha: float = Field(default=10.0, gt=0)
    mc_samples: int = Field(default=10, ge=2)
    regulation: bool = True
    perturbation: Perturbation | None = None
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.95
    teacher_decay: Annotated[float, Field(ge=0, lt=1)] = 0.9999
    teacher_warmup: bool = True


class PretextConfig(_Strict):
    """The frame-level pretext: regress the renderer's pose of every frame.

    Attributes:
        targets: names of the pose columns regressed; empty for all of them.
    """

    targets: tuple[str, ...] = ()


class TrainConfig(_Strict):
    """One training run.

    Attributes:
        task: what is trained: ``classify``, or a task that an installed package adds, such as SynthGym's ``pretext``.
        method: how ``classify`` trains.
        out: folder of the run: log, resumable state and the final checkpoint.
        seed: of weights, order, sampling, views and dropout.
        init: checkpoint folder whose backbone the run starts from, or None.
        resume: continue the run found in `out`, if there is one.
        checkpoint_every: epochs between resumable states.
        checkpoint_steps: steps between resumable states inside an epoch, for long ones; None for none.
        trackers: where Accelerate sends curves, e.g. ``[tensorboard]``, written to `out`; ``[]`` for nowhere.
    """

    task: str = "classify"
    method: Method = "supervised"
    out: Path
    seed: int = Field(default=0, ge=0)
    init: Path | None = None
    resume: bool = False
    checkpoint_every: int = Field(default=1, ge=1)
    checkpoint_steps: int | None = Field(default=None, ge=1)
    trackers: tuple[str, ...] = ()
    model: ModelConfig = ModelConfig()
    regularization: RegularizationConfig = RegularizationConfig()
    data: DataConfig
    optim: OptimConfig
    semi: SemiConfig = SemiConfig()
    pretext: PretextConfig = PretextConfig()

    @model_validator(mode="after")
    def _unlabelled_clips_are_used(self) -> TrainConfig:
        if self.uses_unlabelled and self.data.unlabel is None:
            raise ValueError(f"method {self.method} needs data.unlabel, the list of unlabelled clips")
        if self.uses_unlabelled and self.semi.start_epoch >= self.optim.epochs:
            raise ValueError(
                f"semi.start_epoch {self.semi.start_epoch} leaves none of optim.epochs {self.optim.epochs} "
                "for unlabelled clips"
            )
        return self

    @property
    def uses_unlabelled(self) -> bool:
        """Whether the run reads unlabelled clips."""
        return self.task == "classify" and self.method != "supervised"

    @property
    def perturbation(self) -> Perturbation:
        """What the strong view does to time."""
        return self.semi.perturbation or ("moderate" if self.method == "sefar" else "none")

    @property
    def scale(self) -> tuple[int, int]:
        """Range of the training clips' short side in pixels."""
        if self.data.scale is not None:
            return self.data.scale
        return (round(self.model.size * 256 / 224), round(self.model.size * 320 / 224))


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read a training recipe; see `sefar_training.recipe.read_recipe`.

    Raises:
        RecipeError: the file is not a YAML mapping, an override has no ``=``, or a key or value is wrong.
    """
    return read_recipe(path, TrainConfig, overrides)
