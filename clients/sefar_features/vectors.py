"""Embeddings and tokens of a shard, from wherever its format keeps them."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from .errors import FeaturesError

Vectors = NDArray[np.floating[Any]]


def shard_vectors(shard: Path, name: str, good: NDArray[np.bool_], kind: str) -> Vectors:
    """The vectors of a shard's good rows.

    Args:
        shard: its Parquet file.
        name: ``embedding`` or ``tokens``.
        good: of each of its rows, whether it is no error; at least one is.
        kind: ``parquet``, ``npy`` or ``webdataset``.

    Returns:
        (rows, 256) or (rows, E, D), float16 or float32 as they were written.

    Raises:
        FeaturesError: a file that belongs to the shard is missing, or holds other rows.
    """
    stem = shard.with_suffix("")
    if kind == "parquet":
        return _of_column(pq.read_table(shard, columns=[name])[name].combine_chunks().filter(pa.array(good)))
    if kind == "npy":
        file = stem.with_name(f"{stem.name}.{name}.npy")
        if not file.is_file():
            raise FeaturesError(f"{file} is missing; copy it beside {shard.name}")
        array: Vectors = np.load(file, mmap_mode="r")
        if len(array) != len(good):
            raise FeaturesError(f"{file} has {len(array)} rows and {shard.name} has {len(good)}; copy both again")
        return array[good]
    return _of_samples(stem.with_suffix(".tar"), name, int(good.sum()))


def _of_column(column: Any) -> Vectors:
    """An Arrow array of nested lists of fixed size as a NumPy array; its numbers are not copied."""
    shape = []
    while pa.types.is_fixed_size_list(column.type):
        shape.append(column.type.list_size)
        column = column.flatten()
    array: Vectors = column.to_numpy(zero_copy_only=False)
    return array.reshape(-1, *shape)


def _of_samples(file: Path, name: str, count: int) -> Vectors:
    """Of the samples of a tar, in the order of the rows, whichever order they stand in."""
    if not file.is_file():
        raise FeaturesError(f"{file} is missing; copy it beside {file.with_suffix('.parquet').name}")
    found: dict[str, Vectors] = {}
    with tarfile.open(file) as samples:
        for member in samples:
            content = samples.extractfile(member) if member.name.endswith(f".{name}.npy") else None
            if content is not None:
                found[member.name] = np.load(io.BytesIO(content.read()))
    if len(found) != count:
        raise FeaturesError(f"{file} has {len(found)} samples and its Parquet file {count} good rows; copy both again")
    return np.stack([found[key] for key in sorted(found)])
