"""The graph of neighbours: built on request, written atomically, used only for the shards it was built from."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from feature_folders import GOOD, assert_same_matches, retry, vectors_of, write_features

from sefar_features import FeaturesError, open_features
from sefar_features.features import Features


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_features(tmp_path / "features")


def _graphs(folder: Path) -> list[Path]:
    return list(folder.glob(".nearest*"))


def _without_embeddings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail any search that reads all embeddings."""

    def embeddings(features: Features) -> None:
        raise AssertionError("all embeddings are read")

    monkeypatch.setattr(Features, "embeddings", embeddings)


def test_a_graph_finds_what_exact_search_finds(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exact = [open_features(folder).similar(name, 5) for name in GOOD]
    progress: list[tuple[int, int]] = []
    features = open_features(folder)
    features.build_index(lambda done, total: progress.append((done, total)))
    assert progress == [(3, 15), (7, 15), (11, 15), (15, 15)]
    _without_embeddings(monkeypatch)
    for reader in (features, open_features(folder)):
        for name, expected in zip(GOOD, exact, strict=True):
            assert_same_matches(reader.similar(name, 5), expected)
        assert reader.similar(vectors_of(GOOD)[4], 1)[0].id == GOOD[4]
        with pytest.raises(AssertionError, match="all embeddings are read"):
            reader.similar(GOOD[0], exact=True)


def test_a_graph_is_built_once_and_again_when_shards_change(folder: Path) -> None:
    open_features(folder).build_index()
    [graph] = _graphs(folder)
    written = graph.stat().st_mtime_ns
    open_features(folder).build_index()
    assert graph.stat().st_mtime_ns == written
    retry(folder)
    features = open_features(folder)
    assert_same_matches(features.similar("3.mp4", 20), features.similar("3.mp4", 20, exact=True))
    features.build_index()
    [other] = _graphs(folder)
    assert other != graph
    assert open_features(folder).similar(vectors_of(["3.mp4"])[0], 1)[0].id == "3.mp4"


def test_a_reader_of_replaced_shards_writes_no_graph(folder: Path) -> None:
    old = open_features(folder)
    old.similar(GOOD[0])
    retry(folder)
    with pytest.raises(FeaturesError, match="has changed since"):
        old.build_index()
    assert _graphs(folder) == []


def test_a_reader_uses_a_graph_that_was_built_later(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    features = open_features(folder)
    expected = features.similar(GOOD[0])
    open_features(folder).build_index()
    _without_embeddings(monkeypatch)
    features.__dict__.pop("_exact")
    assert_same_matches(features.similar(GOOD[0]), expected)


@pytest.mark.parametrize("left", [0, 0.01, 0.5, 0.9, 0.9999])
def test_a_truncated_graph_is_not_used_and_is_built_again(folder: Path, left: float) -> None:
    expected = open_features(folder).similar(GOOD[0], exact=True)
    open_features(folder).build_index()
    [graph] = _graphs(folder)
    whole = graph.read_bytes()
    graph.write_bytes(whole[: int(left * len(whole))])
    assert_same_matches(open_features(folder).similar(GOOD[0]), expected)
    open_features(folder).build_index()
    assert graph.stat().st_size == len(whole)


def test_a_graph_of_other_features_is_not_used(folder: Path, tmp_path: Path) -> None:
    from usearch.index import Index as Graph

    open_features(folder).build_index()
    [graph] = _graphs(folder)
    width = vectors_of(GOOD).shape[1]
    for rows, ndim in ((len(GOOD) + 1, width), (3, width + 1)):
        other = Graph(ndim=ndim, metric="ip", dtype="f32")
        other.add(np.arange(rows), np.ones((rows, ndim), np.float32))
        other.save(str(graph))
        features = open_features(folder)
        assert_same_matches(features.similar(GOOD[0]), features.similar(GOOD[0], exact=True))


def test_a_read_only_folder_is_searched_without_a_graph(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    features = open_features(folder)
    monkeypatch.setattr(Path, "touch", refuse)
    progress: list[int] = []
    with pytest.raises(FeaturesError, match=r"cannot write a graph to .*features \(.*Permission denied\)\. Free"):
        features.build_index(lambda done, total: progress.append(done))
    assert progress == [], "the error must come before any work"
    assert_same_matches(features.similar(GOOD[0]), features.similar(GOOD[0], exact=True))


def test_a_graph_that_cannot_be_saved_leaves_no_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("No space left on device")

    monkeypatch.setattr("usearch.index.Index.save", refuse)
    with pytest.raises(FeaturesError, match="No space left on device"):
        open_features(folder).build_index()
    assert _graphs(folder) == []


def test_an_error_of_the_callback_is_raised_and_leaves_no_file(folder: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_features(folder).build_index(stop)
    assert _graphs(folder) == []


def test_graphs_may_be_built_concurrently(folder: Path) -> None:
    open_features(folder).build_index(lambda done, total: open_features(folder).build_index())
    [graph] = _graphs(folder)
    assert graph.suffix == ".usearch"
    features = open_features(folder)
    assert_same_matches(features.similar(GOOD[0]), features.similar(GOOD[0], exact=True))


def test_without_usearch_every_clip_is_compared(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_features(folder).build_index()
    expected = open_features(folder).similar(GOOD[0], exact=True)
    monkeypatch.setitem(sys.modules, "usearch.index", None)
    features = open_features(folder)
    assert_same_matches(features.similar(GOOD[0]), expected)
    _graphs(folder)[0].unlink()
    with pytest.raises(FeaturesError, match=r"a graph needs usearch; run: pip install 'sefar-serve\[search\]'"):
        features.build_index()
