"""The part of a recipe about clips: where they are, and how they are augmented."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from .base import Rate, Strict

_NOT_IN_NAMES = re.compile(r"[^\w.-]+")


def default_features_folder(root: Path) -> Path:
    """Where the features of the clips below a folder are stored: beside the clips, so that all runs share them."""
    return root / ".sefar" / "features"


class DataConfig(Strict):
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
    remap: dict[str, str] = Field(default={})
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


class JointViewsConfig(Strict):
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
