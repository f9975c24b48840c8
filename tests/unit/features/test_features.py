"""Folders of features as their readers see them: the same whatever the format, errors left out, damage named."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from stub_backend import clips_of, row_of

from sefar_features import FeaturesError, open_features
from sefar_features.nearest import ExactIndex, units
from sefar_serve.engine.fake import FAKE_METADATA
from sefar_serve.extract.rows import RowOptions, failed_row
from sefar_serve.extract.shards import open_shards

NAMES = [f"{number}.mp4" for number in range(20)]
BAD = {"3.mp4", "16.mp4", "17.mp4", "18.mp4", "19.mp4"}
GOOD = [name for name in NAMES if name not in BAD]


def _write(folder: Path, **options: object) -> Path:
    """Five shards of four clips; of the last none is good."""
    with open_shards(folder, FAKE_METADATA, "a", RowOptions(**options)) as shards:
        for shard in range(5):
            clips = clips_of(NAMES[4 * shard : 4 * shard + 4])
            rows = [failed_row(c, "empty_video", "empty", FAKE_METADATA) if c.id in BAD else row_of(c) for c in clips]
            shards.commit(shard, rows)
        shards.describe(clips=len(NAMES), failed=len(BAD), shards=5, complete=True)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return _write(tmp_path / "features")


def _expected(name: str = "embedding") -> np.ndarray:
    return np.stack([getattr(row_of(clip), name) for clip in clips_of(GOOD)])


@pytest.mark.parametrize("form", ["parquet", "npy", "webdataset"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_vectors_are_the_good_rows_whatever_the_format(tmp_path: Path, form: str, dtype: str) -> None:
    features = open_features(_write(tmp_path / "f", format=form, dtype=dtype, tokens=True))
    assert len(features) == len(GOOD)
    assert features.ids == GOOD
    assert features.embeddings().dtype == np.float32
    np.testing.assert_array_equal(features.embeddings(), _expected().astype(dtype).astype(np.float32))
    tokens = list(features.tokens())
    assert [len(piece) for piece in tokens] == [3, 4, 4, 4]
    np.testing.assert_array_equal(np.concatenate(tokens), _expected("tokens").astype(dtype))


def test_tables_and_batches_hold_good_rows_failures_the_others(folder: Path) -> None:
    features = open_features(folder)
    assert features.table(["id", "labels"]).column_names == ["id", "labels"]
    assert features.table()["id"].to_pylist() == GOOD
    batches = list(features.batches(["id"], size=3))
    assert max(batch.num_rows for batch in batches) <= 3
    assert [name for batch in batches for name in batch["id"].to_pylist()] == GOOD
    failures = features.failures().to_pylist()
    assert {row["id"] for row in failures} == BAD
    assert failures[0]["error_code"] == "empty_video"
    with pytest.raises(FeaturesError, match=r"no column 'label'; there are id, path"):
        features.table(["label"])


def test_it_says_what_it_is(folder: Path) -> None:
    features = open_features(folder)
    assert repr(features) == (
        f"<Features {folder}: 15 clips, 5 failed, model fake 0, embeddings of {FAKE_METADATA.embedding_dim}, complete>"
    )
    awkward = open_features(folder.rename(folder.with_name("<b>")))
    assert "&lt;b&gt;</b>: 15 clips" in awkward._repr_html_()


def test_a_torch_dataset_goes_through_a_loader(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    features = open_features(_write(tmp_path / "f", tokens=True))
    dataset = features.torch_dataset(tokens=True)
    batches = list(torch.utils.data.DataLoader(dataset, batch_size=8))
    assert [name for batch in batches for name in batch["id"]] == GOOD
    np.testing.assert_array_equal(torch.cat([batch["embedding"] for batch in batches]).numpy(), _expected())
    np.testing.assert_array_equal(torch.cat([batch["tokens"] for batch in batches]).numpy(), _expected("tokens"))
    assert batches[0]["label"][0] == FAKE_METADATA.labels[0]
    assert "tokens" not in features.torch_dataset()[0]


def test_neighbours_are_those_of_largest_cosine(folder: Path) -> None:
    features = open_features(folder)
    vectors = _expected()
    cosines = (vectors @ vectors[2]) / np.linalg.norm(vectors, axis=1) / np.linalg.norm(vectors[2])
    order = [row for row in np.argsort(-cosines) if row != 2]
    for exact in (True, False):
        found = features.similar(GOOD[2], 4, exact=exact)
        assert [match.id for match in found] == [GOOD[row] for row in order[:4]]
        np.testing.assert_allclose([match.score for match in found], cosines[order[:4]], rtol=1e-5)
    assert found[0].path == f"videos/{found[0].id}"
    assert found[0].label == FAKE_METADATA.labels[0]
    assert features.similar(3 * vectors[2], 1)[0].id == GOOD[2]
    assert len(features.similar(GOOD[2], 100)) == len(GOOD) - 1


def test_the_graph_is_kept_and_made_again_when_shards_change(folder: Path) -> None:
    open_features(folder).similar(GOOD[0])
    [graph] = folder.glob(".nearest-*.usearch")
    written = graph.stat().st_mtime_ns
    open_features(folder).similar(GOOD[0])
    assert graph.stat().st_mtime_ns == written
    new = clips_of(["new.mp4"])[0]
    with open_shards(folder, FAKE_METADATA, "a", RowOptions()) as shards:
        shards.commit(5, [row_of(new)])
    assert open_features(folder).similar(row_of(new).embedding, 1)[0].id == "new.mp4"
    [other] = folder.glob(".nearest-*.usearch")
    assert other != graph


def test_without_usearch_every_clip_is_compared(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = open_features(folder).similar(GOOD[0], exact=True)
    monkeypatch.setitem(sys.modules, "usearch.index", None)
    assert open_features(folder).similar(GOOD[0]) == expected


def test_exact_search_in_pieces_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sefar_features.nearest.ROWS_AT_ONCE", 7)
    rng = np.random.default_rng(0)
    vectors = units(rng.normal(size=(50, 8)).astype(np.float32), "row")
    rows, cosines = ExactIndex(vectors).search(vectors[:5], 9)
    whole = vectors[:5] @ vectors.T
    np.testing.assert_array_equal(rows, np.argsort(-whole, axis=1)[:, :9])
    np.testing.assert_allclose(cosines, -np.sort(-whole, axis=1)[:, :9], rtol=1e-5)


def test_questions_that_have_no_answer_are_refused(folder: Path) -> None:
    features = open_features(folder)
    with pytest.raises(FeaturesError, match=r"no good row has the id '3\.mp4'"):
        features.similar("3.mp4")
    with pytest.raises(FeaturesError, match=r"the query has shape \(3,\); embeddings have"):
        features.similar(np.ones(3))
    with pytest.raises(FeaturesError, match="query 0 is zero or not finite"):
        features.similar(np.zeros(FAKE_METADATA.embedding_dim))
    with pytest.raises(FeaturesError, match="ask for one match at least"):
        features.similar(GOOD[0], 0)
    with pytest.raises(FeaturesError, match="has no tokens; make features with `sefar extract --tokens`"):
        features.tokens()


def test_folders_that_hold_no_features_are_named(tmp_path: Path) -> None:
    with pytest.raises(FeaturesError, match=r"holds no features \(no _manifest\.json\); make them with"):
        open_features(tmp_path)
    (tmp_path / "_manifest.json").write_text("{")
    with pytest.raises(FeaturesError, match=r"_manifest\.json is damaged"):
        open_features(tmp_path)
    (tmp_path / "_manifest.json").write_text("{}")
    with pytest.raises(FeaturesError, match="has no shard yet"):
        open_features(tmp_path)


@pytest.mark.parametrize(("form", "file"), [("npy", "part-000001.embedding.npy"), ("webdataset", "part-000001.tar")])
def test_vectors_that_were_not_copied_are_named(tmp_path: Path, form: str, file: str) -> None:
    folder = _write(tmp_path / "f", format=form)
    other = folder / file.replace("000001", "000000")
    (folder / file).write_bytes(other.read_bytes())
    if form == "webdataset":
        with pytest.raises(FeaturesError, match="has 3 samples and its Parquet file 4 good rows"):
            open_features(folder).embeddings()
    (folder / file).unlink()
    with pytest.raises(FeaturesError, match=rf"{file} is missing; copy it beside part-000001\.parquet"):
        open_features(folder).embeddings()
