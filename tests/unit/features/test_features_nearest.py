"""Nearest neighbours by exact search."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from feature_folders import GOOD, assert_same_matches, vectors_of, write_features

from sefar_features import Features, FeaturesError, open_features
from sefar_features.nearest import ExactIndex, normalise, unit
from sefar_serve.engine.fake import FAKE_METADATA

WIDTH = FAKE_METADATA.embedding_dim


@pytest.fixture
def features(tmp_path: Path) -> Features:
    return open_features(write_features(tmp_path / "f"))


def _with_rows(folder: Path, rows: dict[int, float]) -> Path:
    """Features in which some embeddings of shard 1 are filled with one number."""
    write_features(folder, format="npy")
    file = folder / "part-000001.embedding.npy"
    array = np.load(file)
    for row, value in rows.items():
        array[row] = value
    np.save(file, array)
    return folder


def test_neighbours_have_the_largest_cosines(features: Features) -> None:
    vectors = vectors_of(GOOD)
    cosines = (vectors @ vectors[2]) / np.linalg.norm(vectors, axis=1) / np.linalg.norm(vectors[2])
    order = [row for row in np.argsort(-cosines) if row != 2]
    found = features.similar(GOOD[2], 4)
    assert [match.id for match in found] == [GOOD[row] for row in order[:4]]
    np.testing.assert_allclose([match.score for match in found], cosines[order[:4]], rtol=1e-5)
    assert found[0].path == f"videos/{found[0].id}"
    assert found[0].label == FAKE_METADATA.labels[0]
    assert len(features.similar(GOOD[2], 100)) == len(GOOD) - 1
    assert not list(features.folder.glob(".nearest*")), "a graph is built only on request"


def test_every_embedding_finds_its_own_clip(features: Features) -> None:
    for name, vector in zip(GOOD, vectors_of(GOOD), strict=True):
        [best] = features.similar(vector, 1)
        assert best.id == name
        assert 0.999 < best.score <= 1


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 3.0, 1e30, 1e300])
def test_the_length_of_a_query_does_not_matter(features: Features, scale: float) -> None:
    query = vectors_of(GOOD)[5].astype(np.float64)
    assert_same_matches(features.similar(scale * query, 3), features.similar(query, 3))


def test_a_query_is_not_modified(features: Features) -> None:
    query = 3 * vectors_of(GOOD)[5]
    before = query.copy()
    features.similar(query)
    np.testing.assert_array_equal(query, before)
    embeddings = features.embeddings()
    features.similar(GOOD[0])
    np.testing.assert_array_equal(embeddings, vectors_of(GOOD))


def test_invalid_queries(features: Features) -> None:
    with pytest.raises(FeaturesError, match=r"no good row has the id '3\.mp4'"):
        features.similar("3.mp4")
    with pytest.raises(FeaturesError, match=r"the query has shape \(3,\); embeddings have"):
        features.similar(np.ones(3))
    with pytest.raises(FeaturesError, match="neither an id nor an array of numbers"):
        features.similar(Path("a.mp4"))  # type: ignore[arg-type]
    for value in (0, np.nan, np.inf):
        with pytest.raises(FeaturesError, match="the query is zero or not finite"):
            features.similar(np.full(WIDTH, value))
    with pytest.raises(FeaturesError, match="k is 0; it must be 1 or more"):
        features.similar(GOOD[0], 0)


@pytest.mark.parametrize("graph", [False, True])
def test_clips_without_a_direction_are_never_found(tmp_path: Path, graph: bool) -> None:
    features = open_features(_with_rows(tmp_path / "f", {0: 0, 1: np.nan, 3: np.inf}))
    if graph:
        features.build_index()
    found = features.similar(GOOD[0], 100, exact=not graph)
    assert {match.id for match in found} == set(GOOD[1:]) - {"4.mp4", "5.mp4", "7.mp4"}
    assert all(np.isfinite(match.score) for match in found)
    for name in ("4.mp4", "5.mp4", "7.mp4"):
        with pytest.raises(FeaturesError, match=f"the embedding of '{name}' is zero or not finite"):
            features.similar(name)


def test_exact_search_is_exact() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(50, 8)).astype(np.float32)
    normalise(vectors)
    vectors[7] = 0
    whole = vectors @ vectors[3]
    order = [row for row in np.argsort(-whole) if row != 7]
    for k in (1, 9, 48, 49, 50, 1000):
        rows, cosines = ExactIndex(vectors).search(vectors[3], k)
        assert rows.tolist() == order[:k]
        np.testing.assert_allclose(cosines, whole[rows], atol=1e-6)
    rows, _ = ExactIndex(np.zeros((4, 8), np.float32)).search(vectors[3], 2)
    assert rows.tolist() == []


def test_normalised_vectors_have_length_one() -> None:
    vectors = np.array([[3, 4], [3e38, 3e38], [1e-38, 0], [0, 0], [np.inf, 1], [np.nan, 1]], np.float32)
    normalise(vectors)
    half = np.sqrt(0.5)
    np.testing.assert_allclose(vectors, [[0.6, 0.8], [half, half], [1, 0], [0, 0], [0, 0], [0, 0]], rtol=1e-6)
    found = unit(np.array([1e300, 1e300]))
    assert found is not None
    np.testing.assert_allclose(found, [half, half], rtol=1e-6)
    assert unit(np.zeros(2)) is unit(np.array([np.nan, 1])) is None
