"""One row per clip: the model's result, or the reason why there is none. Converts rows to an Arrow table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sefar_serve.engine import Outputs
from sefar_serve.extract.clips import ClipRef
from sefar_serve.inputs import ModelClip
from sefar_serve.metadata import POSES, ModelMetadata
from sefar_serve.reliability import reliability, top_classes

Format = Literal["parquet", "npy", "webdataset"]
VectorName = Literal["embedding", "tokens", "poses"]

POSES_KEY = "sefar.poses"
"""Key in the metadata of the Parquet schema: JSON with the shape of `poses`, the joints' names and the estimator."""


@dataclass(frozen=True)
class RowOptions:
    """Contents of a row; the same for all rows of a folder.

    Attributes:
        tokens: whether to store the tokens of the temporal elements besides the clip embedding.
        poses: whether to store the joints that the model saw; only for models that see them.
        dtype: dtype of all of these. float16 halves their size and keeps 3 decimal digits.
        top_k: number of labels, 1 or more.
        format: where the vectors are stored: in the Parquet file, or next to it as NumPy arrays or a WebDataset.
    """

    tokens: bool = False
    poses: bool = False
    dtype: Literal["float32", "float16"] = "float32"
    top_k: int = 5
    format: Format = "parquet"

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise ValueError(f"top_k {self.top_k} must be at least 1")

    @property
    def vectors(self) -> tuple[VectorName, ...]:
        """Names of the vectors that rows have."""
        return ("embedding", *(("tokens",) if self.tokens else ()), *(("poses",) if self.poses else ()))


@dataclass(frozen=True, eq=False)
class ClipRow:
    """One clip and its result. Unless the clip failed, everything but its span is set.

    Attributes:
        clip: the clip.
        model: name of the model.
        version: version of its weights.
        embedding: float32 (256,).
        tokens: float32 (E, D), one vector per temporal element, the context last; None if not requested.
        poses: float32 (F, P, J, 4), the joints in each frame: x, y, z in metres and visibility; None if not requested.
        presence: float32 (F, P), how sure the pose estimator is of each person; None if not requested.
        labels: class names, best first.
        scores: softmax probabilities of the labels.
        reliability: η in (0, 1].
        familiarity: share of held-out clips that were less typical of what the model knows; None if the model does not
            measure it.
        frame_times: times in seconds of the F frames that the model saw, in element order.
        duration: duration of the whole video in seconds.
        corrupt_frames: number of those frames that the decoder flagged as damaged.
        warnings: about the video and the clip's frames, e.g. that no person was found.
        error_code: machine-readable reason of a failure, as in the HTTP API.
        error: the same reason as text.
    """

    clip: ClipRef
    model: str
    version: str
    embedding: NDArray[np.float32] | None = None
    tokens: NDArray[np.float32] | None = None
    poses: NDArray[np.float32] | None = None
    presence: NDArray[np.float32] | None = None
    labels: Sequence[str] | None = None
    scores: Sequence[float] | None = None
    reliability: float | None = None
    familiarity: float | None = None
    frame_times: Sequence[float] | None = None
    duration: float | None = None
    corrupt_frames: int | None = None
    warnings: Sequence[str] | None = None
    error_code: str | None = None
    error: str | None = None


def found_row(
    ref: ClipRef, clip: ModelClip, outputs: Outputs, version: str, meta: ModelMetadata, options: RowOptions
) -> ClipRow:
    """Build the row of a clip that the model has processed.

    Args:
        ref: the clip.
        clip: the decoded clip.
        outputs: model outputs for this clip, without the batch axis.
        version: version of the weights that answered.
        meta: metadata of the model.
        options: row contents.
    """
    best = top_classes(outputs.logits, options.top_k)
    poses = clip.poses if options.poses else None
    return ClipRow(
        ref,
        meta.name,
        version,
        # Copied, because a slice would keep its whole batch in memory.
        embedding=outputs.embedding.copy(),
        tokens=outputs.tokens.copy() if options.tokens else None,
        poses=None if poses is None else poses.joints,
        presence=None if poses is None else poses.presence,
        labels=[meta.labels[i] for i, _ in best],
        scores=[score for _, score in best],
        reliability=reliability(outputs.mc_logits),
        familiarity=None if outputs.familiarity is None else float(outputs.familiarity),
        frame_times=clip.times.tolist(),
        duration=clip.duration,
        corrupt_frames=len(clip.corrupt),
        warnings=[*clip.video_warnings, *clip.warnings],
    )


def failed_row(ref: ClipRef, code: str, message: str, meta: ModelMetadata) -> ClipRow:
    """Build the row of a clip that failed.

    Args:
        ref: the clip.
        code: machine-readable reason.
        message: the same reason as text.
        meta: metadata of the model that would have processed it.
    """
    return ClipRow(ref, meta.name, meta.version, error_code=code, error=message)


def schema(meta: ModelMetadata, options: RowOptions) -> pa.Schema:
    """Columns of the Parquet files; see docs/how-to/extract-features.md."""
    number = pa.float32() if options.dtype == "float32" else pa.float16()
    names = options.vectors if options.format == "parquet" else ()
    vectors = [
        pa.field(name, _nested(number, shape_of(name, meta)), metadata=_field_notes(name, meta)) for name in names
    ]
    if options.poses:
        vectors.append(pa.field("presence", _nested(pa.float32(), shape_of("poses", meta)[:2])))
    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("path", pa.string(), nullable=False),
            pa.field("start", pa.float64()),
            pa.field("end", pa.float64()),
            *vectors,
            pa.field("labels", pa.list_(pa.string())),
            pa.field("scores", pa.list_(pa.float32())),
            pa.field("reliability", pa.float64()),
            pa.field("familiarity", pa.float64()),
            pa.field("frame_times", pa.list_(pa.float64())),
            pa.field("duration", pa.float64()),
            pa.field("corrupt_frames", pa.int32()),
            pa.field("warnings", pa.list_(pa.string())),
            pa.field("model", pa.string(), nullable=False),
            pa.field("version", pa.string(), nullable=False),
            pa.field("error_code", pa.string()),
            pa.field("error", pa.string()),
        ],
        metadata={POSES_KEY: json.dumps(_about_poses(meta))} if options.poses else None,
    )


def shape_of(name: VectorName, meta: ModelMetadata) -> tuple[int, ...]:
    """Shape of one vector: (256,), (E, D) or (F, P, J, 4)."""
    return meta.inputs[POSES].shape if name == "poses" else meta.output_shapes[name]


def _nested(number: pa.DataType, shape: tuple[int, ...]) -> pa.DataType:
    """The type of fixed-size lists in each other."""
    kind = number
    for width in reversed(shape):
        kind = pa.list_(kind, width)
    return kind


def _field_notes(name: VectorName, meta: ModelMetadata) -> dict[str, str] | None:
    return {"shape": json.dumps(shape_of(name, meta))} if name == "poses" else None


def _about_poses(meta: ModelMetadata) -> dict[str, Any]:
    """What the numbers in `poses` are, for the reader in `sefar_features.poses`."""
    return {
        "shape": shape_of("poses", meta),
        "joints": meta.joints,
        "estimator": meta.estimator,
        "estimator_sha256": meta.estimator_sha256,
    }


def table(rows: Sequence[ClipRow], meta: ModelMetadata, options: RowOptions) -> pa.Table:
    """Convert rows to an Arrow table with this schema."""
    columns = schema(meta, options)
    arrays = [_column(rows, field, meta, options) for field in columns]
    return pa.Table.from_arrays(arrays, schema=columns)


def _column(rows: Sequence[ClipRow], field: pa.Field, meta: ModelMetadata, options: RowOptions) -> pa.Array:
    if field.name in ("embedding", "tokens", "poses"):
        return _lists([getattr(row, field.name) for row in rows], shape_of(field.name, meta), options.dtype)
    if field.name == "presence":
        return _lists([row.presence for row in rows], shape_of("poses", meta)[:2], "float32")
    of_clip = field.name in ("id", "path", "start", "end")
    return pa.array([getattr(row.clip if of_clip else row, field.name) for row in rows], field.type)


def stacked(
    rows: Sequence[ClipRow], name: VectorName, meta: ModelMetadata, options: RowOptions
) -> NDArray[np.floating[Any]]:
    """Stack the vectors of N rows into one array, with NaN for rows that have none.

    Args:
        rows: the rows.
        name: which vectors.
        meta: metadata of the model.
        options: row contents, including the dtype.

    Returns:
        (N, 256), (N, E, D) or (N, F, P, J, 4).
    """
    return _stacked([getattr(row, name) for row in rows], shape_of(name, meta), options.dtype)


def _stacked(
    vectors: Sequence[NDArray[np.float32] | None], shape: tuple[int, ...], dtype: str
) -> NDArray[np.floating[Any]]:
    array = np.full((len(vectors), *shape), np.nan, dtype)
    for place, vector in enumerate(vectors):
        if vector is not None:
            array[place] = vector
    return array


def _lists(vectors: Sequence[NDArray[np.float32] | None], shape: tuple[int, ...], dtype: str) -> pa.Array:
    """Build a column of vectors without turning its numbers into Python objects."""
    array = pa.array(_stacked(vectors, shape, dtype).reshape(-1))
    for width in reversed(shape[1:]):
        array = pa.FixedSizeListArray.from_arrays(array, width)
    absent = pa.array([vector is None for vector in vectors], pa.bool_())
    return pa.FixedSizeListArray.from_arrays(array, shape[0], mask=absent)
