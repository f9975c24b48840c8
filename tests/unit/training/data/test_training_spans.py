from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from small_videos import encode

from sefar_serve.clip import ClipSpanError, Video
from sefar_serve.lists import ListEntry
from sefar_serve.sampling import Sampling
from sefar_training.data import EvaluationClips, FrameStore, TrainingClips, WeakView
from sefar_training.data.opened import OpenVideos
from sefar_training.data.survey import survey_lists

SAMPLING = Sampling((2, 2, 4))


@pytest.fixture
def spans(tmp_path: Path) -> list[ListEntry]:
    """Spans of two videos of 50 frames, 2 s, whose brightness rises by 4 a frame, and a whole one."""
    files = [encode(tmp_path / f"{name}.mp4", 50) for name in "ab"]
    whole = ListEntry("c.mp4", encode(tmp_path / "c.mp4", 10), 2)
    bounds = [(1.0, 2.0), (0.2, 0.6), (None, 0.4)]
    return [*(ListEntry(file.name, file, k, *span) for span in bounds for k, file in enumerate(files)), whole]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the videos that training opens."""
    names: list[str] = []

    class Counted(Video):
        def __init__(self, source: Path, **options: object) -> None:
            names.append(source.name)
            super().__init__(source, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("sefar_training.data.opened.Video", Counted)
    return names


def test_cached_spans_open_each_file_once(spans: list[ListEntry], opened: list[str]) -> None:
    store = FrameStore(spans, 40, 1.0, 0)
    store.fill(progress=False, threads=1)
    assert sorted(opened) == ["a.mp4", "b.mp4", "c.mp4"]
    kept = store.decoded()
    assert [len(kept[entry.clip].shown) for entry in spans] == [25, 25, 10, 10, 10, 10, 10]
    assert all(clip.shown.tolist() == list(range(len(clip.shown))) for clip in kept.values())
    first = kept[spans[2].clip].pixels[:, 0, -1, 0]  # the right half: frames 5 to 14
    assert np.abs(first.astype(int) - 4 * np.arange(5, 15)).max() <= 6


def test_cached_or_not_the_samples_are_the_same(spans: list[ListEntry], opened: list[str]) -> None:
    def clips(cache_gb: float) -> TrainingClips:
        store = FrameStore(spans, 40, cache_gb, 0)
        store.fill(progress=False, threads=1)
        return TrainingClips(store, SAMPLING, WeakView(32, (36, 40), 0.0), seed=0)

    cached, live = clips(1.0), clips(0.0)
    opened.clear()
    for epoch in range(2):
        for index in range(len(spans)):
            assert (cached[epoch, index]["inputs"] == live[epoch, index]["inputs"]).all()
    # Videos that have spans stay open; the others are closed.
    assert sorted(opened) == ["a.mp4", "b.mp4", "c.mp4", "c.mp4"]


def test_evaluation_reads_the_span(spans: list[ListEntry], opened: list[str]) -> None:
    clips = EvaluationClips(spans, SAMPLING, 40, 32)
    for index in (0, 2, 4):
        first, past = [(25, 50), (5, 15), (0, 10)][index // 2]
        brightness = clips[index]["inputs"][:, 0, -1, 0].numpy().astype(int)
        assert 4 * first - 4 <= brightness.min()
        assert brightness.max() <= 4 * past + 4
    assert opened == ["a.mp4"]


def test_open_videos_make_room(spans: list[ListEntry], opened: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sefar_training.data.opened.KEPT_BYTES", 1)
    videos = OpenVideos()
    for entry in (spans[0], spans[2], spans[1], spans[0]):
        with videos.open(entry.clip) as (_, (first, past)):
            assert past > first
    assert opened == ["a.mp4", "b.mp4", "a.mp4"]
    assert isinstance(pickle.loads(pickle.dumps(videos)), OpenVideos)


def test_a_span_that_is_not_in_its_file(spans: list[ListEntry]) -> None:
    late = ListEntry("a.mp4", spans[0].path, 0, 5.0, 6.0)
    with pytest.raises(ClipSpanError, match=r"lasts 2\.000 s"), OpenVideos().open(late.clip):
        pass
    store = FrameStore([late, *spans], 40, 1.0, 1)
    store.fill(progress=False, threads=1)
    assert late.clip not in store.decoded()


def test_lists_of_spans_are_checked(spans: list[ListEntry], tmp_path: Path) -> None:
    train, test = tmp_path / "train.csv", tmp_path / "test.csv"
    train.write_text("path,label,start,end\na.mp4,0,0,1\na.mp4,1,1,2\n")
    test.write_text("path,label,start,end\na.mp4,0,0,1\nb.mp4,1,7,8\n")
    survey = survey_lists([[train, test]], tmp_path, check=True, workers=1, progress=False)
    assert survey.lists[0].repeated == 0
    [broken] = survey.lists[1].broken or ()
    assert "span begins at 7.0 s" in broken.reason
    assert [(overlap.shared, overlap.leak) for overlap in survey.overlaps] == [(1, True)]
