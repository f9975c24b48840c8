"""One row per clip: the model's result, or the reason why there is none. Converts rows to an Arrow table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sefar_serve.clip import Sampled
from sefar_serve.engine import Outputs
from sefar_serve.extract.clips import ClipRef
from sefar_serve.metadata import ModelMetadata
from sefar_serve.reliability import reliability, top_classes

Format = Literal["parquet", "npy", "webdataset"]
VectorName = Literal["embedding", "tokens"]


@dataclass(frozen=True)
class RowOptions:
    """Contents of a row; the same for all rows of a folder.

    Attributes:
        tokens: whether to store the tokens of the temporal elements besides the clip embedding.
        dtype: dtype of both. float16 halves their size and keeps 3 decimal digits.
        top_k: number of labels, 1 or more.
        format: where the vectors are stored: in the Parquet file, or next to it as NumPy arrays or a WebDataset.
    """

    tokens: bool = False
    dtype: Literal["float32", "float16"] = "float32"
    top_k: int = 5
    format: Format = "parquet"

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise ValueError(f"top_k {self.top_k} must be at least 1")


@dataclass(frozen=True, eq=False)
class ClipRow:
    """One clip and its result. Unless the clip failed, everything but its span is set.

    Attributes:
        clip: the clip.
        model: name of the model.
        version: version of its weights.
        embedding: float32 (256,).
        tokens: float32 (E, D), one vector per temporal element, the context last; None if not requested.
        labels: class names, best first.
        scores: softmax probabilities of the labels.
        reliability: η in (0, 1].
        frame_times: times in seconds of the F frames that the model saw, in element order.
        duration: duration of the whole video in seconds.
        corrupt_frames: number of those frames that the decoder flagged as damaged.
        warnings: warnings of the decoder.
        error_code: machine-readable reason of a failure, as in the HTTP API.
        error: the same reason as text.
    """

    clip: ClipRef
    model: str
    version: str
    embedding: NDArray[np.float32] | None = None
    tokens: NDArray[np.float32] | None = None
    labels: Sequence[str] | None = None
    scores: Sequence[float] | None = None
    reliability: float | None = None
    frame_times: Sequence[float] | None = None
    duration: float | None = None
    corrupt_frames: int | None = None
    warnings: Sequence[str] | None = None
    error_code: str | None = None
    error: str | None = None


def found_row(
    ref: ClipRef, clip: Sampled, outputs: Outputs, version: str, meta: ModelMetadata, options: RowOptions
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
    return ClipRow(
        ref,
        meta.name,
        version,
        # Copied, because a slice would keep its whole batch in memory.
        embedding=outputs.embedding.copy(),
        tokens=outputs.tokens.copy() if options.tokens else None,
        labels=[meta.labels[i] for i, _ in best],
        scores=[score for _, score in best],
        reliability=reliability(outputs.mc_logits),
        frame_times=clip.times.tolist(),
        duration=clip.duration,
        corrupt_frames=len(clip.corrupt),
        warnings=list(clip.warnings),
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
    elements = len(meta.sample_frames)
    vectors = []
    if options.format == "parquet":
        vectors.append(pa.field("embedding", pa.list_(number, meta.embedding_dim)))
        if options.tokens:
            vectors.append(pa.field("tokens", pa.list_(pa.list_(number, meta.token_dim), elements)))
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
            pa.field("frame_times", pa.list_(pa.float64())),
            pa.field("duration", pa.float64()),
            pa.field("corrupt_frames", pa.int32()),
            pa.field("warnings", pa.list_(pa.string())),
            pa.field("model", pa.string(), nullable=False),
            pa.field("version", pa.string(), nullable=False),
            pa.field("error_code", pa.string()),
            pa.field("error", pa.string()),
        ]
    )


def table(rows: Sequence[ClipRow], meta: ModelMetadata, options: RowOptions) -> pa.Table:
    """Convert rows to an Arrow table with this schema."""
    columns = schema(meta, options)
    arrays = [_column(rows, field, meta, options) for field in columns]
    return pa.Table.from_arrays(arrays, schema=columns)


def _column(rows: Sequence[ClipRow], field: pa.Field, meta: ModelMetadata, options: RowOptions) -> pa.Array:
    if field.name in ("embedding", "tokens"):
        return _vectors(rows, field.name, meta, options)
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
        (N, 256) or (N, E, D).
    """
    array = np.full((len(rows), *meta.output_shapes[name]), np.nan, options.dtype)
    for place, row in enumerate(rows):
        vector: NDArray[np.float32] | None = getattr(row, name)
        if vector is not None:
            array[place] = vector
    return array


def _vectors(rows: Sequence[ClipRow], name: VectorName, meta: ModelMetadata, options: RowOptions) -> pa.Array:
    """Build a column of vectors without turning its numbers into Python objects."""
    shape = meta.output_shapes[name]
    array = pa.array(stacked(rows, name, meta, options).reshape(-1))
    for width in reversed(shape[1:]):
        array = pa.FixedSizeListArray.from_arrays(array, width)
    absent = pa.array([getattr(row, name) is None for row in rows], pa.bool_())
    return pa.FixedSizeListArray.from_arrays(array, shape[0], mask=absent)
