"""Many videos: order, how many are taken ahead, errors and closing."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_models import fake_model

from sefar_client import Classification, Failure
from sefar_serve.clip import NotAVideoError
from sefar_serve.engine import EngineTimeoutError, EngineUnavailableError, FakeEngine, InferenceError
from sefar_serve.engine import patient as patience
from sefar_serve.local.background import ModelClosedError
from sefar_serve.model import Model

AHEAD = 8
"""Videos that a model with two decode threads takes ahead."""


@pytest.fixture
def model() -> Iterator[Model]:
    with fake_model() as model:
        yield model


class Counted:
    """Yields a video forever and counts how often."""

    def __init__(self, video: Any) -> None:
        self.video = video
        self.taken = 0

    def __iter__(self) -> Counted:
        return self

    def __next__(self) -> Any:
        self.taken += 1
        return self.video


def until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def settled(model: Model) -> None:
    """Wait until the model has no work in progress."""
    background = model._ready()
    until(lambda: not background._tasks and not background.parts._recognizer.decoding)


def test_one_result_each_in_order(model: Model, dark_clip: bytes, bright_clip: bytes, tmp_path: Path) -> None:
    absent = tmp_path / "absent.mp4"
    videos = [bright_clip, dark_clip, absent, b"not a video" * 60, "http://example.com/a.mp4"] * 8
    results = list(model.classify(iter(videos), top_k=1))
    assert len(results) == len(videos)
    for video, result in zip(videos, results, strict=True):
        if video in (bright_clip, dark_clip):
            assert isinstance(result, Classification)
            assert [label.index for label in result.labels] == [2 if video is bright_clip else 0]
        else:
            assert isinstance(result, Failure)
            assert result.video is video
    errors = [type(result.error).__name__ for result in results[2:5] if isinstance(result, Failure)]
    assert errors == ["FileNotFoundError", "NotAVideoError", "UrlNotAllowedError"]
    with pytest.raises(NotAVideoError):
        raise results[3].error  # type: ignore[union-attr]


def test_none(model: Model) -> None:
    assert list(model.classify([])) == []


def test_an_infinite_iterable_is_read_a_limited_number_ahead(model: Model, dark_clip: bytes) -> None:
    videos = Counted(dark_clip)
    results = model.classify(videos)
    assert videos.taken == 0
    for number, _ in enumerate(itertools.islice(results, 40)):
        assert videos.taken - number <= AHEAD
    results.close()
    assert videos.taken <= 40 + AHEAD


def test_no_more_videos_are_taken_while_results_are_not_consumed(model: Model, dark_clip: bytes) -> None:
    videos = Counted(dark_clip)
    results = model.classify(videos)
    next(results)
    settled(model)
    assert videos.taken <= AHEAD


def test_a_slow_source_does_not_hold_back_results(dark_clip: bytes) -> None:
    engine = FakeEngine()
    given = threading.Event()

    def slow(model: Model) -> Iterator[bytes]:
        yield dark_clip
        until(lambda: engine.calls == 1)
        settled(model)
        yield dark_clip
        assert given.wait(20), "the first result came only with the third video"
        yield dark_clip

    with fake_model(engine) as model:
        results = model.classify(slow(model))
        next(results)
        given.set()
        assert len(list(results)) == 2


def test_results_before_a_broken_iterable_are_kept(model: Model, dark_clip: bytes) -> None:
    def breaking() -> Iterator[bytes]:
        yield from [dark_clip] * 3
        raise KeyError("the list broke off")

    found: list[Any] = []
    with pytest.raises(KeyError, match="broke off"):
        found.extend(model.classify(breaking()))
    assert [result.best.index for result in found] == [0, 0, 0]


def test_an_invalid_video_is_raised_after_the_results_before_it(model: Model, dark_clip: bytes) -> None:
    results = model.classify([dark_clip, 7, dark_clip])  # type: ignore[list-item]
    assert isinstance(next(results), Classification)
    with pytest.raises(TypeError, match="not int"):
        next(results)


def test_leaving_early_cancels_the_work_in_progress(dark_clip: bytes) -> None:
    engine = FakeEngine(delay=3600)
    with fake_model(engine) as model:
        results = model.classify([b"not a video" * 60, *[dark_clip] * 50])
        assert isinstance(next(results), Failure)
        results.close()
        settled(model)
        assert engine.running == 0
        engine.delay = 0
        assert model.classify(dark_clip).best.index == 0


def test_an_abandoned_generator_cancels_too(dark_clip: bytes) -> None:
    engine = FakeEngine(delay=3600)
    with fake_model(engine) as model:
        for _ in model.classify([b"not a video" * 60, *[dark_clip] * 50]):
            break
        settled(model)
        assert engine.running == 0


@pytest.mark.parametrize("error", [InferenceError("bad"), EngineTimeoutError("slow"), RuntimeError("unexpected")])
def test_an_error_about_one_video_does_not_affect_the_others(dark_clip: bytes, error: Exception) -> None:
    with fake_model(FakeEngine()) as model:
        model.classify(dark_clip)
        engine: Any = model._ready().parts.engine
        engine.failure = error
        assert [result.error for result in model.classify([dark_clip] * 3)] == [error] * 3  # type: ignore[union-attr]
        with pytest.raises(type(error), match=str(error)):
            model.classify(dark_clip)


def test_an_error_that_affects_every_video_is_raised(dark_clip: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "PATIENCE", 0.0)
    with fake_model(FakeEngine()) as model:
        model.classify(dark_clip)
        engine: Any = model._ready().parts.engine
        engine.failure = EngineUnavailableError("away", retry_after=0)
        with pytest.raises(EngineUnavailableError, match="away"):
            list(model.classify([dark_clip] * 100))
        settled(model)


def test_a_model_that_is_briefly_unavailable_is_retried(dark_clip: bytes, caplog: pytest.LogCaptureFixture) -> None:
    class Restarting(FakeEngine):
        refusals = 3

        async def check(self) -> None:
            if self.started and self.refusals:
                self.refusals -= 1
                raise EngineUnavailableError("restarting", retry_after=0)
            await super().check()

    with fake_model(Restarting()) as model:
        assert model.classify(dark_clip).best.index == 0
    assert caplog.text.count("restarting; retrying in 0 s") == 3


def test_closing_the_model_ends_its_results(dark_clip: bytes) -> None:
    model = fake_model(FakeEngine(delay=0.01))
    results = model.classify(Counted(dark_clip))
    next(results)
    model.close()
    with pytest.raises(ModelClosedError):
        for _ in range(AHEAD + 1):
            next(results)


def test_more_windows_than_the_engine_queues(dark_clip: bytes) -> None:
    with fake_model(max_queue=2) as model:
        results = list(model.classify([dark_clip] * 6, window=0.08, stride=0.04))
    assert [len(result.timeline or ()) for result in results if isinstance(result, Classification)] == [23] * 6
