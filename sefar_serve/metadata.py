"""The description of a SeFAR model, stored inside its ONNX file.

Serving a model needs its labels, its sampling and its preprocessing. They are written into
the file's metadata at export and read from there at load, so no side file can go stale.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sefar_serve.errors import SefarError
from sefar_serve.sampling import Layout, Sampling

OUTPUT_NAMES = ("logits", "embedding", "tokens", "mc_logits")
"""Outputs of the ONNX graph; its only input is ``frames``."""

PREFIX = "sefar."
"""Prefix of SeFAR's keys in the ONNX metadata; their values are JSON."""


class MetadataError(SefarError, ValueError):
    """The ONNX file has no valid SeFAR metadata."""

    code = "not_a_sefar_model"


class ModelMetadata(BaseModel):
    """The description of a model.

    Attributes:
        name: the name that clients pass as `model`, e.g. ``sefar-synthgym-tiny``.
        version: version of the weights, e.g. ``1``.
        dataset: name of the training data set, for information only.
        sample_frames: frames per temporal element, fine ones first, context last.
        layout: where the elements' frames come from, see `sefar_serve.sampling`.
        resize: frames are scaled so that their short side has this many pixels.
        size: side in pixels of the central square cut from the scaled frame; at most `resize`.
        mean: per RGB channel, on [0, 1], subtracted inside the graph.
        std: per RGB channel, on [0, 1], divided by inside the graph.
        labels: class names; class n is line n of the label file.
        attributes: machine-readable attributes of each class, e.g. ``{"direction": "forward"}``;
            empty if the data set has none.
        opposites: for each class, the number of its exact opposite in time, or None; empty
            if the data set has none.
        embedding_dim: width of the ``embedding`` output.
        token_dim: width D of the ``tokens`` output.
        mc_samples: T, the number of Monte-Carlo head samples in ``mc_logits``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    version: str = Field(min_length=1)
    dataset: str
    sample_frames: tuple[int, ...]
    layout: Layout = "interleaved"
    resize: int = Field(ge=1)
    size: int = Field(ge=1)
    mean: tuple[float, float, float] = (0.45, 0.45, 0.45)
    std: tuple[float, float, float] = (0.225, 0.225, 0.225)
    labels: tuple[str, ...] = Field(min_length=1)
    attributes: tuple[dict[str, str | float], ...] = ()
    opposites: tuple[int | None, ...] = ()
    embedding_dim: int = Field(default=256, ge=1)
    token_dim: int = Field(ge=1)
    mc_samples: int = Field(default=10, ge=2)

    @model_validator(mode="after")
    def _consistent(self) -> ModelMetadata:
        _ = self.sampling  # raises ValueError on invalid elements
        if self.size > self.resize:
            raise ValueError(f"size {self.size} is larger than resize {self.resize}; it must be at most resize")
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
    def frames_shape(self) -> tuple[int, int, int, int]:
        """Shape (F, H, W, 3) of one clip's uint8 frames."""
        return (sum(self.sample_frames), self.size, self.size, 3)

    @property
    def output_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each output for one clip, without the batch axis, in the order of `OUTPUT_NAMES`."""
        classes = len(self.labels)
        shapes = (
            (classes,),
            (self.embedding_dim,),
            (len(self.sample_frames), self.token_dim),
            (self.mc_samples, classes),
        )
        return dict(zip(OUTPUT_NAMES, shapes, strict=True))

    def to_props(self) -> dict[str, str]:
        """The ONNX ``metadata_props`` entries: one JSON value per key."""
        return {PREFIX + key: json.dumps(value) for key, value in self.model_dump(mode="json").items()}

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
