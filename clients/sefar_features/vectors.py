"""Embeddings, tokens and poses of a shard, read from where its format stores them."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from .errors import FeaturesError
from .shards import Shard

Vectors = NDArray[np.floating[Any]]


def shard_vectors(shard: Shard, name: str, shape: tuple[int, ...], kind: str) -> Vectors:
    """Read the vectors of a shard's good rows.

    Args:
        shard: a shard with at least one good row.
        name: ``embedding``, ``tokens`` or ``poses``.
        shape: shape of one vector: (256,), (E, D) or (F, P, J, 4).
        kind: ``parquet``, ``npy`` or ``webdataset``.

    Returns:
        (rows, 256), (rows, E, D) or (rows, F, P, J, 4), float16 or float32 as they were written.

    Raises:
        FeaturesError: a file that belongs to the shard is missing or damaged, holds other rows, or was replaced.
    """
    if kind == "parquet":
        source = shard.file
        found = rows_of_lists(shard.table([name], shard.good)[name].combine_chunks())
    elif kind == "npy":
        source = shard.file.with_name(f"{shard.file.stem}.{name}.npy")
        found = _of_array(source, shard)
    else:
        source = shard.file.with_suffix(".tar")
        found = _of_samples(source, name, shard)
    wanted = (int(shard.good.sum()), *shape)
    if found.shape != wanted:
        raise FeaturesError(f"{source} has {name} of shape {found.shape}, not {wanted}; copy the whole folder again")
    return found


def rows_of_lists(column: Any) -> Vectors:
    """Convert an Arrow array of nested fixed-size lists to a NumPy array without copying its numbers."""
    shape = []
    while pa.types.is_fixed_size_list(column.type):
        shape.append(column.type.list_size)
        column = column.flatten()
    array: Vectors = column.to_numpy(zero_copy_only=False)
    return array.reshape(-1, *shape)


def _of_array(file: Path, shard: Shard) -> Vectors:
    """Read from an array with a line for each row, which is NaN for errors."""
    shard.check_unchanged()
    _check_there(file, shard)
    try:
        array: Vectors = np.load(file, mmap_mode="r")
    except (ValueError, OSError, EOFError) as error:
        raise _damaged(file, shard, error) from error
    if array.ndim == 0 or len(array) != len(shard.good):
        raise FeaturesError(
            f"{file} has {array.size and len(array)} rows and {shard.file.name} has {len(shard.good)}; copy both again"
        )
    return array[shard.good]


def _of_samples(file: Path, name: str, shard: Shard) -> Vectors:
    """Read from the samples of a tar, in the order of the rows, whatever their order in the tar."""
    shard.check_unchanged()
    _check_there(file, shard)
    found: dict[int, Vectors] = {}
    ending = f".{name}.npy"
    try:
        with tarfile.open(file, "r:") as samples:
            for member in samples:
                content = samples.extractfile(member) if member.name.endswith(ending) else None
                if content is not None:
                    # The name of a sample ends with the number of its row, which may have more digits than others.
                    row = int(member.name.removesuffix(ending).rpartition("-")[2])
                    found[row] = np.load(io.BytesIO(content.read()))
    except (tarfile.TarError, ValueError, OSError, EOFError) as error:
        raise _damaged(file, shard, error) from error
    rows = np.flatnonzero(shard.good).tolist()
    # The tar may have more samples, because a retry writes it before the Parquet file.
    if not found.keys() >= set(rows):
        raise FeaturesError(
            f"{file} has {len(found)} samples, which do not match the {len(rows)} good rows of {shard.file.name}; "
            "copy both again"
        )
    return np.stack([found[row] for row in rows])


def _check_there(file: Path, shard: Shard) -> None:
    if not file.is_file():
        raise FeaturesError(f"{file} is missing; copy it to the folder of {shard.file.name}")


def _damaged(file: Path, shard: Shard, error: Exception) -> FeaturesError:
    return FeaturesError(
        f"{file} cannot be read ({error}); copy it again, or delete it and {shard.file.name}, and run the same "
        "`sefar extract` again"
    )
