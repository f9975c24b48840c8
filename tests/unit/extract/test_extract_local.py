"""Decode processes with an engine: good clips, bad clips, and an engine that is down for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest
from grey_clips import encode_grey_clip

from sefar_serve.engine import (
    EngineOverloadedError,
    EngineUnavailableError,
    FakeEngine,
    InferenceError,
    Prediction,
)
from sefar_serve.engine.base import Inputs
from sefar_serve.engine.fake import FAKE_METADATA
from sefar_serve.extract.clips import ClipRef, MixedModelError
from sefar_serve.extract.decoders import DecoderPool
from sefar_serve.extract.local import LocalBackend
from sefar_serve.extract.rows import ClipRow, RowOptions
from sefar_serve.extract.run import Work

AT_ONCE = 4


@pytest.fixture(scope="module")
def pool() -> Iterator[DecoderPool]:
    with DecoderPool(FAKE_METADATA, workers=2, slots=AT_ONCE) as pool:
        yield pool


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[ClipRef]:
    folder = tmp_path_factory.mktemp("clips")
    refs = []
    for number in range(12):
        (folder / f"{number}.mp4").write_bytes(encode_grey_clip([20 * number] * 12))
        refs.append(ClipRef(str(number), str(folder / f"{number}.mp4")))
    (folder / "5.mp4").write_bytes(b"not a video")
    return refs


def _rows(pool: DecoderPool, clips: list[ClipRef], engine: FakeEngine, **options: float) -> dict[str, ClipRow]:
    async def run() -> dict[str, ClipRow]:
        await engine.start()
        backend = LocalBackend(engine, pool, RowOptions(tokens=True), at_once=AT_ONCE, **options)
        work = (Work(clip, 0, place) for place, clip in enumerate(clips))
        return {work.clip.id: row async for work, row in backend.rows(work)}

    return asyncio.run(run())


def test_each_clip_has_its_own_result(pool: DecoderPool, clips: list[ClipRef]) -> None:
    engine = FakeEngine(delay=0.002)
    rows = _rows(pool, clips, engine)
    assert sorted(rows, key=int) == [clip.id for clip in clips]
    assert rows["5"].error_code == "not_a_video"
    assert rows["5"].embedding is None
    for number in set(range(12)) - {5}:
        row = rows[str(number)]
        chosen = min(int(20 * number / 256 * 3 + 0.02), 2)
        assert (row.error_code, row.labels[0]) == (None, FAKE_METADATA.labels[chosen])
        np.testing.assert_array_equal(row.embedding, np.full(8, chosen, np.float32))
        assert row.tokens.shape == (3, 4)
        assert len(row.frame_times) == 8
        assert 0 < row.reliability <= 1
    assert engine.calls == 11


class FailingEngine(FakeEngine):
    """Raises the given errors before it answers."""

    def __init__(self, *errors: Exception) -> None:
        super().__init__()
        self._errors = list(errors)

    async def infer(self, inputs: Inputs) -> Prediction:
        if self._errors:
            raise self._errors.pop()
        return await super().infer(inputs)


def test_requests_are_retried_while_the_engine_is_down(
    pool: DecoderPool, clips: list[ClipRef], monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    sleep = asyncio.sleep

    async def soon(seconds: float) -> None:
        waits.append(seconds)
        await sleep(0)

    monkeypatch.setattr("sefar_serve.extract.local.asyncio.sleep", soon)
    engine = FailingEngine(*[EngineOverloadedError("full"), EngineUnavailableError("restarting")] * 3)
    rows = _rows(pool, clips[:4], engine)
    assert [rows[clip.id].error_code for clip in clips[:4]] == [None] * 4
    assert len(waits) >= 6
    assert min(waits[:6]) >= 0


def test_an_engine_that_stays_down_fails_the_run(pool: DecoderPool, clips: list[ClipRef]) -> None:
    with pytest.raises(EngineUnavailableError, match="gone"):
        _rows(pool, clips[:2], FakeEngine(failure=EngineUnavailableError("gone")), patience=0.0)


def test_a_clip_on_which_the_model_fails_gets_an_error_row(pool: DecoderPool, clips: list[ClipRef]) -> None:
    rows = _rows(pool, clips[:2], FakeEngine(failure=InferenceError("NaN")))
    assert {(row.error_code, row.error) for row in rows.values()} == {("inference_failed", "NaN")}


def test_another_version_during_a_run_fails_it(pool: DecoderPool, clips: list[ClipRef]) -> None:
    class Replaced(FakeEngine):
        async def infer(self, inputs: Inputs) -> Prediction:
            found = await super().infer(inputs)
            return Prediction(found.outputs, "7", 0, 0, 1)

    with pytest.raises(MixedModelError, match="switched to version 7 of fake; this run started with version 0"):
        _rows(pool, clips[:2], Replaced())


def test_no_more_work_is_read_than_can_be_in_flight(pool: DecoderPool, clips: list[ClipRef]) -> None:
    taken = done = 0

    def work() -> Iterator[Work]:
        nonlocal taken
        for place, clip in enumerate(clips):
            taken += 1
            assert taken - done <= AT_ONCE
            yield Work(clip, 0, place)

    async def run() -> None:
        nonlocal done
        engine = FakeEngine()
        await engine.start()
        async for _ in LocalBackend(engine, pool, RowOptions(), at_once=AT_ONCE).rows(work()):
            done += 1

    asyncio.run(run())
    assert done == len(clips)


def test_closing_a_run_stops_its_running_clips(pool: DecoderPool, clips: list[ClipRef]) -> None:
    async def run() -> int:
        engine = FakeEngine(delay=30)
        await engine.start()
        rows = LocalBackend(engine, pool, RowOptions(), at_once=2).rows(
            Work(clip, 0, place) for place, clip in enumerate(clips[4:])
        )
        work, row = await anext(rows)  # the damaged clip, which does not reach the engine
        assert (work.clip.id, row.error_code) == ("5", "not_a_video")
        await rows.aclose()
        return engine.running

    assert asyncio.run(run()) == 0
