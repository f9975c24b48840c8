"""Common tools read real shards: good rows, error rows, float16 and tokens."""

from __future__ import annotations

import gc
from pathlib import Path

import datasets
import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pytest
import webdataset
from stub_backend import clips_of, row_of

from sefar_serve.engine.fake import FAKE_METADATA
from sefar_serve.extract.rows import RowOptions, failed_row
from sefar_serve.extract.shards import open_shards

NAMES = ["a.mp4", "bad.mp4", "b/c.d.mp4", "e.mp4"]
GOOD = [name for name in NAMES if name != "bad.mp4"]


def _write(folder: Path, form: str = "parquet") -> Path:
    options = RowOptions(tokens=True, dtype="float16", format=form)
    with open_shards(folder, FAKE_METADATA, "a", options) as shards:
        for number, names in enumerate([NAMES[:2], NAMES[2:]]):
            rows = [
                row_of(clip) if clip.id in GOOD else failed_row(clip, "empty_video", "empty", FAKE_METADATA)
                for clip in clips_of(names)
            ]
            shards.commit(number, rows)
        shards.describe(clips=len(NAMES), failed=1, shards=2, complete=True)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write(tmp_path_factory.mktemp("features"))


def _vectors(name: str = "embedding") -> np.ndarray:
    return np.stack([getattr(row_of(clip), name) for clip in clips_of(GOOD)]).astype(np.float16)


def test_pandas(folder: Path) -> None:
    frame = pd.read_parquet(sorted(folder.glob("part-*.parquet")))
    assert frame["id"].tolist() == NAMES
    good = frame[frame["error_code"].isna()]
    np.testing.assert_array_equal(np.stack(good["embedding"]), _vectors())
    assert frame["error_code"].tolist()[1] == "empty_video"


@pytest.mark.parametrize("form", ["npy", "webdataset"])
def test_pandas_if_vectors_are_stored_next_to_the_table(tmp_path: Path, form: str) -> None:
    folder = _write(tmp_path / form, form)
    assert pd.read_parquet(sorted(folder.glob("part-*.parquet")))["id"].tolist() == NAMES


def test_polars(folder: Path) -> None:
    good = pl.scan_parquet(folder / "part-*.parquet").filter(pl.col("error_code").is_null()).collect()
    assert good["id"].to_list() == GOOD
    np.testing.assert_array_equal(np.stack(good["embedding"].to_list()), _vectors())


def test_duckdb(folder: Path) -> None:
    query = (
        f"FROM '{folder}/part-*.parquet' SELECT id, labels[1], embedding WHERE error_code IS NULL ORDER BY filename, id"
    )
    rows = duckdb.sql(query).fetchall()
    assert [row[0] for row in rows] == GOOD
    assert {row[1] for row in rows} == {FAKE_METADATA.labels[0]}
    np.testing.assert_array_equal(np.array([row[2] for row in rows], np.float16), _vectors())


def test_datasets(folder: Path, tmp_path: Path) -> None:
    files = f"{folder}/part-*.parquet"
    found = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path))
    good = found.filter(lambda row: row["error_code"] is None, keep_in_memory=True).with_format("numpy")
    assert found["id"] == NAMES
    np.testing.assert_array_equal(good["embedding"][:], _vectors())
    np.testing.assert_array_equal(good["tokens"][:], _vectors("tokens"))


def test_numpy(tmp_path: Path) -> None:
    folder = _write(tmp_path / "npy", "npy")
    arrays = [np.load(folder / f"part-00000{number}.embedding.npy", mmap_mode="r") for number in range(2)]
    whole = np.concatenate(arrays)
    np.testing.assert_array_equal(whole[[0, 2, 3]], _vectors())
    assert np.isnan(whole[1]).all()


# webdataset leaves the last shard to the garbage collector.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset(tmp_path: Path) -> None:
    folder = _write(tmp_path / "webdataset", "webdataset")
    shards = f"{folder}/part-{{000000..000001}}.tar"
    samples = list(webdataset.WebDataset(shards, shardshuffle=False).decode())
    assert [sample["json"]["id"] for sample in samples] == GOOD
    np.testing.assert_array_equal(np.stack([sample["embedding.npy"] for sample in samples]), _vectors())
    np.testing.assert_array_equal(np.stack([sample["tokens.npy"] for sample in samples]), _vectors("tokens"))
    del samples
    gc.collect()
