"""Folders of features: equal in every format, without errors, and damage is reported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from feature_folders import BAD, GOOD, retry, vectors_of, write_features

from sefar_features import FeaturesError, open_features
from sefar_serve.engine.fake import FAKE_METADATA
from sefar_serve.extract.clips import ClipRef
from sefar_serve.extract.rows import RowOptions, failed_row
from sefar_serve.extract.shards import open_shards


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_features(tmp_path / "features")


@pytest.mark.parametrize("form", ["parquet", "npy", "webdataset"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_vectors_are_those_of_good_rows_in_every_format(tmp_path: Path, form: str, dtype: str) -> None:
    features = open_features(write_features(tmp_path / "f", format=form, dtype=dtype, tokens=True))
    assert len(features) == len(GOOD)
    assert features.ids == GOOD
    assert features.embeddings().dtype == np.float32
    np.testing.assert_array_equal(features.embeddings(), vectors_of(GOOD).astype(dtype).astype(np.float32))
    tokens = list(features.tokens())
    assert [len(piece) for piece in tokens] == [3, 4, 4, 4]
    np.testing.assert_array_equal(np.concatenate(tokens), vectors_of(GOOD, "tokens").astype(dtype))


def test_tables_and_batches_have_good_rows_and_failures_the_others(folder: Path) -> None:
    features = open_features(folder)
    assert features.table(["id", "labels"]).column_names == ["id", "labels"]
    assert features.table()["id"].to_pylist() == GOOD
    batches = list(features.batches(["id"], size=3))
    assert max(batch.num_rows for batch in batches) <= 3
    assert [name for batch in batches for name in batch["id"].to_pylist()] == GOOD
    failures = features.failures().to_pylist()
    assert {row["id"] for row in failures} == BAD
    assert failures[0]["error_code"] == "empty_video"
    with pytest.raises(FeaturesError, match=r"no column 'label'; the columns are id, path"):
        features.table(["label"])


def test_repr(folder: Path) -> None:
    features = open_features(folder)
    assert repr(features) == (
        f"<Features {folder}: 15 clips, 5 failed, model fake 0, embeddings of {FAKE_METADATA.embedding_dim}, complete>"
    )
    awkward = open_features(folder.rename(folder.with_name("<b>")))
    assert "&lt;b&gt;</b>: 15 clips" in awkward._repr_html_()


def test_a_torch_dataset_works_with_a_data_loader(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    features = open_features(write_features(tmp_path / "f", tokens=True))
    dataset = features.torch_dataset(tokens=True)
    batches = list(torch.utils.data.DataLoader(dataset, batch_size=8))
    assert [name for batch in batches for name in batch["id"]] == GOOD
    np.testing.assert_array_equal(torch.cat([batch["embedding"] for batch in batches]).numpy(), vectors_of(GOOD))
    np.testing.assert_array_equal(torch.cat([batch["tokens"] for batch in batches]).numpy(), vectors_of(GOOD, "tokens"))
    assert batches[0]["label"][0] == FAKE_METADATA.labels[0]
    assert "tokens" not in features.torch_dataset()[0]


@pytest.mark.parametrize("form", ["parquet", "npy", "webdataset"])
def test_reading_a_replaced_shard_is_an_error(tmp_path: Path, form: str) -> None:
    folder = write_features(tmp_path / "f", format=form)
    features, used = open_features(folder), open_features(folder)
    assert len(used.ids) == len(GOOD)
    retry(folder, format=form)
    for ask in (
        lambda: repr(features),
        lambda: used.table(["id"]),
        lambda: list(used.batches()),
        used.failures,
        used.embeddings,
        lambda: used.similar(GOOD[0]),
        lambda: used.similar(vectors_of(GOOD)[0], exact=True),
        used.build_index,
    ):
        with pytest.raises(FeaturesError, match=r"part-000000\.parquet has changed since .* was opened; open it again"):
            ask()
    names = [*GOOD[:3], "3.mp4", *GOOD[3:]]
    np.testing.assert_array_equal(open_features(folder).embeddings(), vectors_of(names))


def test_shards_added_later_are_ignored(folder: Path) -> None:
    features = open_features(folder)
    with open_shards(folder, FAKE_METADATA, "a", RowOptions()) as shards:
        shards.commit(5, [failed_row(ClipRef("new", "new"), "empty_video", "empty", FAKE_METADATA)])
    assert features.failures().num_rows == len(BAD)
    assert open_features(folder).failures().num_rows == len(BAD) + 1


def test_a_folder_with_only_failures_is_empty(tmp_path: Path) -> None:
    torch_data = pytest.importorskip("sefar_features.torch_data")
    with open_shards(tmp_path / "f", FAKE_METADATA, "a", RowOptions(tokens=True)) as shards:
        shards.commit(0, [failed_row(ClipRef("a", "a"), "empty_video", "empty", FAKE_METADATA)])
        shards.describe(clips=1, failed=1, shards=1)
    features = open_features(tmp_path / "f")
    features.build_index()
    width = FAKE_METADATA.embedding_dim
    assert (len(features), features.ids, list(features.batches()), list(features.tokens())) == (0, [], [], [])
    assert features.embeddings().shape == (0, width)
    assert features.similar(np.ones(width)) == features.similar(np.ones(width), exact=True) == []
    dataset = features.torch_dataset(tokens=True)
    assert isinstance(dataset, torch_data.FeatureDataset)
    assert len(dataset) == 0
    assert dataset.tokens is not None
    assert dataset.tokens.shape == (0, len(FAKE_METADATA.sample_frames), FAKE_METADATA.token_dim)


def test_invalid_arguments(folder: Path) -> None:
    features = open_features(folder)
    with pytest.raises(FeaturesError, match=r"columns is a string; give a list of names: \['id'\]"):
        features.table("id")
    with pytest.raises(FeaturesError, match="columns is an empty list; give at least one"):
        features.table([])
    with pytest.raises(FeaturesError, match="size is 0; it must be 1 or more"):
        features.batches(size=0)
    with pytest.raises(FeaturesError, match=r"no column 'x'"):
        features.batches(["x"])
    for ask in (features.tokens, lambda: features.torch_dataset(tokens=True)):
        with pytest.raises(FeaturesError, match="has no tokens; extract them with `sefar extract --tokens`"):
            ask()
