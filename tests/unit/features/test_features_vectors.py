"""Vectors next to the shards: matched by row number, and damaged or missing files are named."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feature_folders import write_features

from sefar_features import FeaturesError, open_features
from sefar_features.shards import Shard
from sefar_features.vectors import shard_vectors

BESIDE = [("npy", "part-000001.embedding.npy"), ("webdataset", "part-000001.tar")]


@pytest.mark.parametrize(("form", "file"), BESIDE)
def test_missing_vector_files_are_named(tmp_path: Path, form: str, file: str) -> None:
    folder = write_features(tmp_path / "f", format=form)
    other = folder / file.replace("000001", "000000")
    (folder / file).write_bytes(other.read_bytes())
    if form == "webdataset":
        with pytest.raises(FeaturesError, match="has 3 samples, which do not match the 4 good rows"):
            open_features(folder).embeddings()
    (folder / file).unlink()
    with pytest.raises(FeaturesError, match=rf"{file} is missing; copy it to the folder of part-000001\.parquet"):
        open_features(folder).embeddings()


@pytest.mark.parametrize(("form", "file"), BESIDE)
@pytest.mark.parametrize("content", [b"", b"garbage", b"garbage" * 1000])
def test_damaged_vector_files_are_named(tmp_path: Path, form: str, file: str, content: bytes) -> None:
    folder = write_features(tmp_path / "f", format=form)
    (folder / file).write_bytes(content)
    with pytest.raises(FeaturesError, match=rf"{file} cannot be read \(.*\); copy it again"):
        open_features(folder).embeddings()


def test_vectors_of_the_wrong_number_or_width_are_named(tmp_path: Path) -> None:
    folder = write_features(tmp_path / "f", format="npy")
    file = folder / "part-000001.embedding.npy"
    np.save(file, np.ones((3, 5), np.float32))
    with pytest.raises(FeaturesError, match=r"has 3 rows and part-000001\.parquet has 4; copy both again"):
        open_features(folder).embeddings()
    np.save(file, np.ones((4, 5), np.float32))
    with pytest.raises(
        FeaturesError, match=r"has embedding of shape \(4, 5\), not \(4, .*; copy the whole folder again"
    ):
        open_features(folder).embeddings()
    folder = write_features(tmp_path / "g")
    manifest = json.loads((folder / "_manifest.json").read_text())
    manifest["model"]["embedding_dim"] += 1
    (folder / "_manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(FeaturesError, match=r"part-000000\.parquet has embedding of shape"):
        open_features(folder).embeddings()


def test_samples_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    rows = 100_002
    good = np.zeros(rows, np.bool_)
    good[[99_998, 99_999, 100_000, 100_001]] = True
    codes = pa.array([None if fine else "empty_video" for fine in good], pa.string())
    pq.write_table(pa.table({"error_code": codes}), tmp_path / "part-000000.parquet")
    with tarfile.open(tmp_path / "part-000000.tar", "w") as out:
        for row in np.flatnonzero(good):
            array = io.BytesIO()
            np.save(array, np.full(2, row, np.float32))
            member = tarfile.TarInfo(f"part-000000-{row:05d}.embedding.npy")
            member.size = len(array.getvalue())
            out.addfile(member, io.BytesIO(array.getvalue()))
    found = shard_vectors(Shard(tmp_path / "part-000000.parquet"), "embedding", (2,), "webdataset")
    assert found[:, 0].tolist() == [99_998, 99_999, 100_000, 100_001]


def test_samples_already_written_by_a_retry_are_left_out(tmp_path: Path) -> None:
    folder = write_features(tmp_path / "f", format="webdataset")
    expected = open_features(folder).embeddings()
    (folder / "part-000000.tar").write_bytes((folder / "part-000001.tar").read_bytes())  # four samples
    assert open_features(folder).embeddings().shape == expected.shape
