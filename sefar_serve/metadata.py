"""The description of a SeFAR model, stored inside its ONNX file.

Serving a model needs its labels, its sampling and its preprocessing. They are written into
the file's metadata at export and read from there at load, so no side file can go stale.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sefar_serve.errors import SefarError
from sefar_serve.sampling import Layout, Sampling

OUTPUT_NAMES = ("logits", "embedding", "tokens", "mc_logits")
"""Outputs of every ONNX graph."""

FAMILIARITY = "familiarity"
"""Output that a graph has if its description has `ModelMetadata.familiarity`."""

FRAMES = "frames"
"""Input of models that see pictures: uint8 (B,F,H,W,3), RGB, in element order."""

POSES = "poses"
"""Input of models that see joints: float32 (B,F,P,J,4), as in `sefar_serve.pose.Poses.joints`, in element order."""

Stream = Literal["rgb", "pose", "both"]
"""What a model sees of a video: pictures, joints, or both."""

PREFIX = "sefar."
"""Prefix of SeFAR's keys in the ONNX metadata; their values are JSON."""


class TensorSpec(NamedTuple):
    """Dtype and shape of an input for one clip, without the batch axis."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]


OF_FRAMES = {"resize", "size", "mean", "std"}
"""Fields of a description that only models that see frames need."""

OF_JOINTS = {"stream", "joints", "persons", "estimator", "estimator_sha256", "pose_weight"}
"""Fields of a description that only models that see joints need."""

ALIGNMENT = 64
"""Bytes; tensors in shared memory start at multiples of it."""


def memory_layout(specs: Mapping[str, TensorSpec]) -> tuple[dict[str, int], int]:
    """Place tensors one after another in memory.

    Args:
        specs: the tensors, in order.

    Returns:
        The offset of each in bytes, a multiple of `ALIGNMENT`, and the size of all in bytes, a multiple of it as well.
    """
    offsets, end = {}, 0
    for name, spec in specs.items():
        offsets[name] = end
        end += prod(spec.shape) * spec.dtype.itemsize
        end += -end % ALIGNMENT
    return offsets, end


class PixelSizes(NamedTuple):
    """How frames are cut for a model: scaled to a short side of `resize` pixels, then a central square of `size`."""

    resize: int
    size: int


class MetadataError(SefarError, ValueError):
    """The ONNX file has no valid SeFAR metadata."""

    code = "not_a_sefar_model"


class FamiliarityInfo(BaseModel):
    """How the output ``familiarity`` is computed, and from how many clips.

    Attributes:
        method: what is measured; ``knn5``: the distance of the mean token to the 5th nearest of the reference clips.
        clips: training clips that are the reference.
        held_out: clips of the validation list that the distance is compared with.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str = Field(min_length=1)
    clips: int = Field(ge=1)
    held_out: int = Field(ge=1)


class Quantization(BaseModel):
    """How a file was brought to a lower precision than float32, and what that cost.

    Attributes:
        precision: of the products with weights.
        clips: labelled clips that it was checked on.
        top1: share of them classified correctly, in [0, 1].
        top1_fp32: the same before.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    precision: Literal["int8", "fp16"]
    clips: int = Field(ge=1)
    top1: float = Field(ge=0, le=1)
    top1_fp32: float = Field(ge=0, le=1)


class ModelMetadata(BaseModel):
    """The description of a model.

    Attributes:
        name: the name that clients pass as `model`, e.g. ``sefar-synthgym-tiny``.
        version: version of the weights, e.g. ``1``.
        dataset: name of the training data set, for information only.
        stream: what the model sees. Its inputs follow from this, see `inputs`.
        sample_frames: frames per temporal element, fine ones first, context last.
        layout: where the elements' frames come from, see `sefar_serve.sampling`.
        resize: frames are scaled so that their short side has this many pixels; None if it sees no frames.
        size: side in pixels of the central square cut from the scaled frame; at most `resize`.
        mean: per RGB channel, on [0, 1], subtracted inside the graph.
        std: per RGB channel, on [0, 1], divided by inside the graph.
        joints: names of the joints that the model sees, in order; empty if it sees none.
        persons: number of persons whose joints it sees.
        estimator: name of the pose estimator that it was trained with.
        estimator_sha256: of the estimator's weights; joints from others are not the same.
        pose_weight: weight of the pose stream in the late fusion of both; the pictures have the rest.
        labels: class names; class n is line n of the label file.
        attributes: machine-readable attributes of each class, e.g. ``{"direction": "forward"}``;
            empty if the data set has none.
        opposites: for each class, the number of its exact opposite in time, or None; empty
            if the data set has none.
        embedding_dim: width of the ``embedding`` output.
        token_dim: width D of the ``tokens`` output.
        mc_samples: T, the number of Monte-Carlo head samples in ``mc_logits``.
        familiarity: where the output ``familiarity`` comes from; None if the graph does not have it.
        temperature: what the class scores were divided by, chosen on the validation list, so that probabilities are
            calibrated; None if they are as trained.
        quantization: how the file was brought to a lower precision; None if it computes in float32.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    version: str = Field(min_length=1)
    dataset: str
    stream: Stream = "rgb"
    sample_frames: tuple[int, ...]
    layout: Layout = "interleaved"
    resize: int | None = Field(default=None, ge=1)
    size: int | None = Field(default=None, ge=1)
    mean: tuple[float, float, float] = (0.45, 0.45, 0.45)
    std: tuple[float, float, float] = (0.225, 0.225, 0.225)
    joints: tuple[str, ...] = ()
    persons: int = Field(default=1, ge=1, le=2)
    estimator: str = ""
    estimator_sha256: str = ""
    pose_weight: float | None = Field(default=None, ge=0, le=1)
    labels: tuple[str, ...] = Field(min_length=1)
    attributes: tuple[dict[str, str | float], ...] = ()
    opposites: tuple[int | None, ...] = ()
    embedding_dim: int = Field(default=256, ge=1)
    token_dim: int = Field(ge=1)
    mc_samples: int = Field(default=10, ge=2)
    familiarity: FamiliarityInfo | None = None
    temperature: float | None = Field(default=None, gt=0)
    quantization: Quantization | None = None

    @model_validator(mode="after")
    def _consistent(self) -> ModelMetadata:
        _ = self.sampling  # raises ValueError on invalid elements
        if self.sees_frames != (self.resize is not None and self.size is not None):
            raise ValueError(
                f"stream {self.stream}: resize and size belong to models that see frames, and only to them"
            )
        if self.resize is not None and self.size is not None and self.size > self.resize:
            raise ValueError(f"size {self.size} is larger than resize {self.resize}; it must be at most resize")
        if self.sees_joints != bool(self.joints and self.estimator and self.estimator_sha256):
            raise ValueError(
                f"stream {self.stream}: joints, estimator and estimator_sha256 belong to models that see joints, "
                "and only to them"
            )
        if (self.stream == "both") != (self.pose_weight is not None):
            raise ValueError(f"stream {self.stream}: pose_weight belongs to models that see both, and only to them")
        for field in ("attributes", "opposites"):
            count = len(getattr(self, field))
            if count not in (0, len(self.labels)):
                raise ValueError(f"{count} {field} for {len(self.labels)} labels; give one per label, or none")
        return self

    @property
    def sampling(self) -> Sampling:
        """The sampling, as `sefar_serve.clip` takes it."""
        return Sampling(self.sample_frames, self.layout)

    @property
    def sees_frames(self) -> bool:
        """Whether the model takes pictures."""
        return self.stream != "pose"

    @property
    def sees_joints(self) -> bool:
        """Whether the model takes joints, which a pose estimator finds."""
        return self.stream != "rgb"

    @property
    def pixels(self) -> PixelSizes | None:
        """How frames are cut; None if the model sees none."""
        return None if self.resize is None or self.size is None else PixelSizes(self.resize, self.size)

    @property
    def inputs(self) -> dict[str, TensorSpec]:
        """Dtype and shape of each input for one clip, by its name in the graph."""
        found = {}
        if self.pixels is not None:
            side = self.pixels.size
            found[FRAMES] = TensorSpec(np.dtype(np.uint8), (self.sampling.frames, side, side, 3))
        if self.sees_joints:
            shape = (self.sampling.frames, self.persons, len(self.joints), 4)
            found[POSES] = TensorSpec(np.dtype(np.float32), shape)
        return found

    def zeros(self, clips: int) -> dict[str, NDArray[Any]]:
        """Inputs of black clips without persons, for warming up and health checks."""
        return {name: np.zeros((clips, *spec.shape), spec.dtype) for name, spec in self.inputs.items()}

    @property
    def zero_clip(self) -> dict[str, NDArray[Any]]:
        """The same for one clip, without the batch axis."""
        return {name: values[0] for name, values in self.zeros(1).items()}

    @property
    def output_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each output for one clip, without the batch axis: `OUTPUT_NAMES` in order, then `FAMILIARITY`."""
        classes = len(self.labels)
        shapes = (
            (classes,),
            (self.embedding_dim,),
            (len(self.sample_frames), self.token_dim),
            (self.mc_samples, classes),
        )
        found: dict[str, tuple[int, ...]] = dict(zip(OUTPUT_NAMES, shapes, strict=True))
        return found if self.familiarity is None else found | {FAMILIARITY: ()}

    @property
    def tensors(self) -> dict[str, TensorSpec]:
        """Dtype and shape of each input and output for one clip, the inputs first."""
        number = np.dtype(np.float32)
        return self.inputs | {name: TensorSpec(number, shape) for name, shape in self.output_shapes.items()}

    def to_props(self) -> dict[str, str]:
        """The ONNX ``metadata_props`` entries: one JSON value per key, only for what the model sees."""
        # A description without a stream is one of pictures, so versions exported before there were streams share a
        # Triton repository with later ones.
        unused = (set() if self.sees_frames else OF_FRAMES) | (set() if self.sees_joints else OF_JOINTS)
        unused |= {name for name in ("familiarity", "temperature", "quantization") if getattr(self, name) is None}
        fields = self.model_dump(mode="json", exclude=unused)
        return {PREFIX + key: json.dumps(value) for key, value in fields.items()}

    @classmethod
    def from_props(cls, props: Mapping[str, str], source: str) -> ModelMetadata:
        """Read the description back.

        Args:
            props: the ONNX file's metadata; keys without `PREFIX` are ignored.
            source: the file's name, for error messages.

        Raises:
            MetadataError: if SeFAR's keys are missing, malformed or contradict each other.
        """
        fields: dict[str, Any] = {}
        for key, value in props.items():
            if key.startswith(PREFIX):
                try:
                    fields[key.removeprefix(PREFIX)] = json.loads(value)
                except json.JSONDecodeError as error:
                    raise MetadataError(
                        f"{source} has invalid metadata: {key} is not JSON ({error}); "
                        "export the model again with `sefar export`"
                    ) from error
        if not fields:
            raise MetadataError(f"{source} has no {PREFIX}* metadata; export the model with `sefar export`")
        try:
            return cls(**fields)
        except ValidationError as error:
            wrong = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'model'}: {e['msg']}" for e in error.errors())
            raise MetadataError(
                f"{source} has invalid {PREFIX}* metadata: {wrong}; export the model again with `sefar export`"
            ) from error
