"""Recipes of training runs, as typed objects that are validated before training starts.

A recipe is a YAML file. `load_recipe` reads it and applies ``dotted.key=value`` overrides; errors name the offending
key.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sefar_serve.pose.load import MAX_PERSONS
from sefar_serve.sampling import Layout, Sampling

from .model import IMAGE_NETWORKS, VARIANTS, Architecture, BackboneName, Stream, VariantName
from .recipe import read_recipe

Perturbation = Literal["none", "moderate", "shuffle", "reverse-all", "channel-flip"]
"""Temporal perturbation of the strong view; see `sefar_training.semisupervised.frame_order`."""

ORDERED_FRAMES: dict[str, tuple[int, ...]] = {"rgb": (1,) * 8, "pose": (1,) * 16}
"""Frames of a model with a frozen backbone, by stream, unless a recipe says otherwise."""

FROZEN_BACKBONES: dict[str, BackboneName] = {"rgb": "efficientnet-lite0", "pose": "coordinates"}
"""The frozen backbone of each stream."""
_NOT_IN_NAMES = re.compile(r"[^\w.-]+")

Rgb = tuple[float, float, float]
Rate = Annotated[float, Field(ge=0, lt=1)]


def default_features_folder(root: Path) -> Path:
    """Where the features of the clips below a folder are stored: beside the clips, so that all runs share them."""
    return root / ".sefar" / "features"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelConfig(_Strict):
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


class RegularizationConfig(_Strict):
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


class DataConfig(_Strict):
    """Where the clips are, and how they are augmented.

    A recipe may set ``lists``, the folder of its lists; the four lists are then relative to it.

    Attributes:
        name: name of the data set, part of the name of exported models; None for the name of the folder `root`. Not
            used if `root` is changed on the command line and `name` is not.
        root: folder that relative paths in the lists and the files below are relative to.
        train: list file of `path label` lines.
        unlabel: list file of clips without labels, or None; needed by every method except ``supervised``. Labels in it
            only measure how often pseudo-labels are right.
        val: list file to evaluate after every epoch, or None.
        test: list file to evaluate at the end, or None.
        labels: file of class names, line n is class n; None numbers the classes up to the highest label in the lists.
        classes: JSON file of attributes and opposites per class, or None if the data set has none.
        poses: ``.npz`` file of per-frame pose targets; only for the task ``pretext``.
        remap: replacements of path prefixes in the lists, e.g. ``{"/root/video/": "videos/"}``.
        scale: range of the short side in pixels that training clips are scaled to before a random square is cropped;
            None for the paper's 256 to 320 for a size of 224, in proportion.
        flip: probability of a horizontal flip of a training clip; of joints, left and right are exchanged.
        strong: strength in [0, 1] of the strong view's colour jitter, blur and erasing; 0, as in the paper, adds
            nothing to the weak view. Strong views of joints are set in `joint_views`.
        strong_labelled: show labelled clips in the strong view too. With few labels, pseudo-labels need it.
        balance: draw labelled clips so that all classes come equally often; off draws all clips equally often. The
            method ``linear`` always balances.
        cache_gb: memory for decoded frames, per list; 0 decodes every clip in each epoch.
        joints: folder of estimated joints, for the stream ``pose``; relative to `root`. Either one of `sefar extract
            --poses`, which makes the videos unnecessary, or an existing folder that joints are stored in when they have
            been estimated. None for ``.sefar/joints`` in `root`, where every run on these clips finds them.
        true_joints: folder of joints that are known, relative to `root`, such as SynthGym's ``joints``; used instead of
            estimated ones. The model is not served then, because videos come without them. See [True
            joints](#true-joints).
        workers: processes that prepare batches; 0 prepares them in the training process.
        max_broken: training clips that may fail to decode before the run stops; each is logged by name.
    """

    name: str | None = None
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
    strong_labelled: bool = False
    balance: bool = False
    cache_gb: float = Field(default=0.0, ge=0)
    joints: Path | None = None
    true_joints: Path | None = None
    workers: int = Field(default=0, ge=0)
    max_broken: int = Field(default=0, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _lists_in_one_folder(cls, fields: Any) -> Any:
        if not isinstance(fields, dict) or "lists" not in fields:
            return fields
        # Resolved here, so that the recipe stored in a checkpoint is self-contained.
        folder = fields["lists"]
        if not isinstance(folder, str | Path):
            raise ValueError("lists must be the path of a folder")
        lists = {key: Path(folder) / fields[key] for key in ("train", "unlabel", "val", "test") if fields.get(key)}
        return {key: value for key, value in fields.items() if key != "lists"} | lists

    @property
    def dataset(self) -> str:
        """Name of the data set."""
        return self.name or _NOT_IN_NAMES.sub("-", self.root.resolve().name).strip("-") or "unnamed"

    @property
    def joints_folder(self) -> Path | None:
        """Folder of joints that the recipe names; None for `default_joints_folder`."""
        return None if self.joints is None else self.root / self.joints

    @model_validator(mode="after")
    def _ordered(self) -> DataConfig:
        if self.scale is not None and self.scale[0] > self.scale[1]:
            raise ValueError(f"scale {self.scale} is not in ascending order")
        if self.joints is not None and self.true_joints is not None:
            raise ValueError(
                "joints and true_joints are both set; keep one: joints are estimated, true_joints are known"
            )
        return self


class OptimConfig(_Strict):
    """Optimiser, learning rate and length of a run.

    Attributes:
        epochs: number of epochs. An epoch is one pass over the unlabelled clips if the method uses them, else over the
            labelled clips.
        steps_per_epoch: length of an epoch in steps; None for one pass. Shorter lists are repeated in another order,
            so that methods can be compared at the same number of steps.
        batch_size: labelled clips per step, over all processes.
        accumulate: parts that a batch is processed in, one after another, to save memory.
        optimizer: ``adamw``, or ``sgd`` with plain momentum as in the paper.
        momentum: momentum of ``sgd``.
        lr: highest learning rate.
        weight_decay: decay of weight matrices; biases, norms and embeddings have none.
        warmup_epochs: epochs of linear warm-up; may be fractional.
        schedule: ``cosine``, or ``steps``, which multiplies the learning rate by 0.1 at each of `milestones` (the
            paper: epochs 25 and 28 of 30).
        milestones: epochs of ``steps``, ascending.
        final_lr: learning rate at the end of ``cosine``, as a share of `lr`.
        clip_grad: largest gradient norm; None does not clip.
        precision: ``bf16`` autocast or ``fp32``.
        patience: early stopping: epochs without a better top-1 accuracy on the val list, after which training stops and
            the weights of the best epoch are kept. With unlabelled clips, counting begins when they do. None never
            stops early.
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
    patience: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _consistent(self) -> OptimConfig:
        if (self.schedule == "steps") != bool(self.milestones):
            raise ValueError("schedule steps needs milestones, and milestones need schedule: steps")
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"milestones {self.milestones} are not in ascending order")
        return self


Method = Literal["linear", "supervised", "fixmatch", "flexmatch", "svformer", "sefar"]
"""Training methods; all except ``linear`` and ``supervised`` use unlabelled clips."""

WITHOUT_UNLABELLED = ("linear", "supervised")
"""Methods that learn from labelled clips only."""


class SemiConfig(_Strict):
    """How unlabelled clips are used. Each method reads the fields that it needs.

    Attributes:
        batch_size: unlabelled clips per step, over all processes.
        start_epoch: epochs with labelled clips only, before the first pseudo-label (the paper's warm-up).
        ramp: multiply the unlabelled losses by ξ = sin(π/2 · (epoch + 1 − start)/(epochs − start)); if off, ξ is 1.
        pseudo_weight: γ1, weight of the pseudo-label loss.
        mix_weight: γ2, weight of the mixing loss (``svformer``, ``sefar``).
        mix_alpha: the mixing ratio is drawn from Beta(α, α).
        mc_samples: T, Monte-Carlo dropout predictions of the teacher (``sefar``).
        regulation: weight pseudo-labels by η (``sefar``); if off, all weigh 1, as an ablation.
        perturbation: temporal perturbation of the strong view; None for the method's default, which is ``moderate``
            for ``sefar`` and ``none`` for the others.
        threshold: smallest probability of a pseudo-label that is used (``fixmatch``, ``flexmatch``, ``svformer``).
        teacher_decay: highest decay of the exponential moving average of weights. In a run of n steps of averaging it
            is at most 0.01^(1/n): at the end, the weights that it started with make up at most 1 % of it.
        teacher_warmup: limit the decay after n steps to 1 − (n + 1)^(−2/3) (timm's ModelEmaV3), for short runs. If off,
            the average is a copy of the student until `start_epoch`, then uses the full decay.
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


class JointViewsConfig(_Strict):
    """The views of training clips of joints, made after normalisation.

    Values are drawn once per clip, unless stated otherwise. The axes are those of the normalised body: x from right to
    left, y down, z to the back.

    Attributes:
        scale: weak and strong view: sizes change by up to this share.
        tilt: weak view: largest turn about x and about z, in degrees.
        yaw: weak view: largest turn about y, in degrees.
        strong_stretch: strong view: sizes along each axis change by up to this share, besides `scale`.
        strong_tilt: strong view: largest turn about x and about z, in degrees.
        strong_yaw: strong view: largest turn about y, in degrees.
        strong_noise: strong view: standard deviation of each coordinate in each frame, in torso lengths.
        strong_body: strong view: standard deviation of each coordinate, the same in all frames, in torso lengths.
        strong_drop: strong view: share of joints that are missing in the whole clip.
        strong_drop_frames: strong view: share of joints that are missing in single frames.
        strong_time: strong view: up to this share of the clip is cut off at its start, and at its end.
    """

    scale: Annotated[float, Field(ge=0, lt=1)] = 0.05
    tilt: float = Field(default=5.0, ge=0, le=180)
    yaw: float = Field(default=5.0, ge=0, le=180)
    strong_stretch: Annotated[float, Field(ge=0, lt=1)] = 0.15
    strong_tilt: float = Field(default=15.0, ge=0, le=180)
    strong_yaw: float = Field(default=20.0, ge=0, le=180)
    strong_noise: float = Field(default=0.03, ge=0)
    strong_body: float = Field(default=0.05, ge=0)
    strong_drop: Rate = 0.1
    strong_drop_frames: Rate = 0.05
    strong_time: Annotated[float, Field(ge=0, lt=0.5)] = 0.1


class LinearConfig(_Strict):
    """The method ``linear``: logistic regression on features of a frozen backbone.

    Attributes:
        c: weight of the loss against the penalty; ``choose`` takes the best of a small grid in cross-validation of the
            labelled clips, which is noisy with few labels.
        motion: weight of what changes within a clip against what clips differ in; None for 2 with ``rgb``, 1 with
            ``pose``.
        views: for ``rgb``, views of each training clip: the one that is served, then random ones.
        features: for ``rgb``, folder that features are stored in; None for ``.sefar/features`` in `data.root`.
    """

    c: Annotated[float, Field(gt=0)] | Literal["choose"] = 30.0
    motion: Annotated[float, Field(gt=0)] | None = None
    views: int = Field(default=3, ge=1)
    features: Path | None = None


class PretextConfig(_Strict):
    """The task ``pretext``: regress the rendered pose of every frame.

    Attributes:
        targets: names of the pose columns to regress; empty for all.
    """

    targets: tuple[str, ...] = ()


class TrainConfig(_Strict):
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
