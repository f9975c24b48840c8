"""Vectors beside the Parquet file, for the tools that want them as NumPy arrays or as a WebDataset."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sefar_serve.extract.rows import ClipRow, RowOptions, VectorName, stacked
from sefar_serve.folders import file_written_whole
from sefar_serve.metadata import ModelMetadata


def write_vectors(
    stem: Path, rows: Sequence[ClipRow], meta: ModelMetadata, options: RowOptions, places: Sequence[int] | None
) -> None:
    """Write the files that belong to a shard, if the format has any.

    Args:
        stem: the shard's path without its suffix.
        rows: its rows, or the new ones of them.
        meta: of the model.
        options: which files.
        places: where in the shard the new rows stand, of which the others stay as they are; None for all rows.
    """
    names: tuple[VectorName, ...] = ("embedding", "tokens") if options.tokens else ("embedding",)
    if options.format == "npy":
        for name in names:
            file = stem.with_name(f"{stem.name}.{name}.npy")
            array = stacked(rows, name, meta, options)
            if places is not None:
                whole = np.load(file)
                whole[list(places)] = array
                array = whole
            with file_written_whole(file) as new, new.open("wb") as out:
                np.save(out, array)
    elif options.format == "webdataset":
        file = stem.with_suffix(".tar")
        # Ids may hold dots and slashes, which mean something in the name of a sample.
        keys = [f"{stem.name}-{place:05d}" for place in (range(len(rows)) if places is None else places)]
        with file_written_whole(file) as new, tarfile.open(new, "w") as out:
            if places is not None:
                _copy_samples(file, set(keys), out)
            for key, row in zip(keys, rows, strict=True):
                if row.error_code is None:
                    _add_sample(out, key, row, names, options)


def _add_sample(out: tarfile.TarFile, key: str, row: ClipRow, names: Sequence[VectorName], options: RowOptions) -> None:
    about = {
        "id": row.clip.id,
        "path": row.clip.path,
        "start": row.clip.start,
        "end": row.clip.end,
        "labels": row.labels,
        "scores": row.scores,
        "reliability": row.reliability,
        "frame_times": row.frame_times,
        "duration": row.duration,
        "model": row.model,
        "version": row.version,
    }
    _add(out, f"{key}.json", json.dumps(about, ensure_ascii=False).encode())
    for name in names:
        array = io.BytesIO()
        np.save(array, getattr(row, name).astype(options.dtype))
        _add(out, f"{key}.{name}.npy", array.getvalue())


def _add(out: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)  # no date and no owner: the same rows give the same bytes
    member.size = len(content)
    out.addfile(member, io.BytesIO(content))


def _copy_samples(file: Path, but: set[str], out: tarfile.TarFile) -> None:
    with tarfile.open(file) as old:
        for member in old:
            if member.name.partition(".")[0] not in but:
                out.addfile(member, old.extractfile(member))
