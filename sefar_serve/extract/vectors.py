"""Stores vectors next to the Parquet file, as NumPy arrays or as a WebDataset."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sefar_serve.atomic import atomic_file
from sefar_serve.extract.clips import ExtractError
from sefar_serve.extract.rows import ClipRow, RowOptions, VectorName, stacked
from sefar_serve.metadata import ModelMetadata


def vector_files(stem: Path, options: RowOptions) -> list[Path]:
    """Files that belong to a shard besides its Parquet file.

    Args:
        stem: path of the shard without its suffix.
        options: row contents, which decide the files.
    """
    if options.format == "npy":
        return [_array_file(stem, name) for name in options.vectors]
    return [_tar_file(stem)] if options.format == "webdataset" else []


def write_vectors(stem: Path, rows: Sequence[ClipRow], meta: ModelMetadata, options: RowOptions) -> None:
    """Write the vector files of a new shard.

    Args:
        stem: path of the shard without its suffix.
        rows: all of its rows.
        meta: metadata of the model.
        options: row contents, which decide the files.
    """
    if options.format == "npy":
        for name in options.vectors:
            with atomic_file(_array_file(stem, name)) as new, new.open("wb") as out:
                np.save(out, stacked(rows, name, meta, options))
    elif options.format == "webdataset":
        _write_tar(stem, {_key(stem, place): _sample(row, options) for place, row in enumerate(rows) if _is_good(row)})


def replace_vectors(stem: Path, rows: Mapping[int, ClipRow], good: Sequence[int], options: RowOptions) -> None:
    """Replace the vectors of some rows.

    Args:
        stem: path of the shard without its suffix.
        rows: new rows by their index in the shard.
        good: indices of the rows that had vectors before.
        options: row contents, which decide the files.

    Raises:
        ExtractError: a file does not match its shard.
    """
    if options.format == "npy":
        for name in options.vectors:
            file = _array_file(stem, name)
            try:
                array = np.load(file)
                for place, row in rows.items():
                    array[place] = getattr(row, name) if _is_good(row) else np.nan
            except (ValueError, EOFError, IndexError) as error:
                raise _damaged(file, stem) from error
            with atomic_file(file) as new, new.open("wb") as out:
                np.save(out, array)
    elif options.format == "webdataset":
        samples = _read_tar(_tar_file(stem), stem)
        if not samples.keys() >= {_key(stem, place) for place in good}:
            raise _damaged(_tar_file(stem), stem)
        for place, row in rows.items():
            samples.pop(_key(stem, place), None)  # left by a run killed between tar and Parquet file
            if _is_good(row):
                samples[_key(stem, place)] = _sample(row, options)
        _write_tar(stem, samples)


def _array_file(stem: Path, name: VectorName) -> Path:
    return stem.with_name(f"{stem.name}.{name}.npy")


def _tar_file(stem: Path) -> Path:
    return stem.with_suffix(".tar")


def _key(stem: Path, place: int) -> str:
    # Ids may contain dots and slashes, which have a meaning in the names of samples.
    return f"{stem.name}-{place:05d}"


def _is_good(row: ClipRow) -> bool:
    return row.error_code is None


def _damaged(file: Path, stem: Path) -> ExtractError:
    return ExtractError(
        f"{file} does not match {stem.name}.parquet; move {stem.name}.parquet away so that the next run redoes its "
        "clips"
    )


def _sample(row: ClipRow, options: RowOptions) -> dict[str, bytes]:
    """Contents of a row's files, by the part of their names after the key."""
    about: dict[str, Any] = {
        "id": row.clip.id,
        "path": row.clip.path,
        "start": row.clip.start,
        "end": row.clip.end,
        "labels": row.labels,
        "scores": row.scores,
        "reliability": row.reliability,
        "familiarity": row.familiarity,
        "frame_times": row.frame_times,
        "duration": row.duration,
        "model": row.model,
        "version": row.version,
    }
    if row.presence is not None:
        about["presence"] = row.presence.tolist()
    files = {"json": json.dumps(about, ensure_ascii=False).encode()}
    for name in options.vectors:
        array = io.BytesIO()
        np.save(array, getattr(row, name).astype(options.dtype))
        files[f"{name}.npy"] = array.getvalue()
    return files


def _write_tar(stem: Path, samples: Mapping[str, Mapping[str, bytes]]) -> None:
    with atomic_file(_tar_file(stem)) as new, tarfile.open(new, "w") as out:
        for key in sorted(samples):
            for name, content in samples[key].items():
                member = tarfile.TarInfo(f"{key}.{name}")  # no date or owner, so equal rows give equal bytes
                member.size = len(content)
                out.addfile(member, io.BytesIO(content))


def _read_tar(file: Path, stem: Path) -> dict[str, dict[str, bytes]]:
    samples: dict[str, dict[str, bytes]] = {}
    try:
        with tarfile.open(file) as old:
            for member in old:
                key, _, name = member.name.partition(".")
                content = old.extractfile(member)
                if content is not None:
                    samples.setdefault(key, {})[name] = content.read()
    except tarfile.TarError as error:
        raise _damaged(file, stem) from error
    return samples
