"""From videos to predictions: limits, slots that are held until work ends, cancelled work."""

from __future__ import annotations

import asyncio
import threading

import pytest

from sefar_serve.clip import NotAVideoError
from sefar_serve.engine import EngineOverloadedError, FakeEngine, InferenceError
from sefar_serve.recognition import Bounds, ClipInput, Recognised, Recognizer, Span


def clip_input(video: bytes, closed: list[str] | None = None, name: str = "clip") -> ClipInput:
    return ClipInput(name, lambda: video, lambda: closed.append(name) if closed is not None else None)


def test_results_keep_their_order_and_a_failure_fails_no_other_clip(dark_clip: bytes, bright_clip: bytes) -> None:
    async def run() -> None:
        async with Recognizer(FakeEngine(), Bounds(decode_threads=2)) as recognizer:
            videos = [bright_clip, b"no video" * 40, dark_clip]
            first, bad, last = await recognizer.recognise(
                [clip_input(video) for video in videos], recognizer.engine.model(None)
            )
            assert isinstance(bad, NotAVideoError)
            assert isinstance(first, Recognised)
            assert isinstance(last, Recognised)
            assert first.windows[0].prediction.outputs.logits.argmax() == 2
            assert last.windows[0].prediction.outputs.logits.argmax() == 0
            assert recognizer.decoding == 0

    asyncio.run(run())


def test_a_failing_model_gives_an_error_as_the_result_of_its_clip(dark_clip: bytes) -> None:
    async def run() -> None:
        engine = FakeEngine()
        async with Recognizer(engine) as recognizer:
            engine.failure = InferenceError("bad")
            [result] = await recognizer.recognise([clip_input(dark_clip)], recognizer.engine.model(None))
            assert result is engine.failure

    asyncio.run(run())


def test_windows(dark_clip: bytes) -> None:
    async def run() -> None:
        async with Recognizer(FakeEngine()) as recognizer:
            [found] = await recognizer.recognise(
                [clip_input(dark_clip)], recognizer.engine.model(None), Span(windows=(0.4,))
            )
            assert isinstance(found, Recognised)
            starts = [window.start for window in found.windows]
            assert starts[:3] == pytest.approx([0.0, 0.2, 0.4])  # half a window apart by default
            assert found.windows[-1].end >= 24 / 25 - 1e-6

    asyncio.run(run())


def test_a_cancelled_request_frees_its_slot_only_when_its_thread_is_done(dark_clip: bytes) -> None:
    async def run() -> None:
        release, opened, closed = threading.Event(), threading.Event(), []

        def slow() -> bytes:
            opened.set()
            assert release.wait(10)
            return dark_clip

        async with Recognizer(FakeEngine(), Bounds(decode_threads=1, max_decoding=2)) as recognizer:
            inputs = [ClipInput("slow", slow, lambda: closed.append("slow")), clip_input(dark_clip, closed)]
            request = asyncio.create_task(recognizer.recognise(inputs, recognizer.engine.model(None)))
            await asyncio.to_thread(opened.wait, 10)
            request.cancel()
            with pytest.raises(asyncio.CancelledError):
                await request
            async with asyncio.timeout(10):
                while recognizer.decoding != 1:  # the waiting one is dropped, the running one counts
                    await asyncio.sleep(0.001)
            assert closed == ["clip"]
            with pytest.raises(EngineOverloadedError):
                await recognizer.recognise(
                    [clip_input(dark_clip), clip_input(dark_clip)], recognizer.engine.model(None)
                )
            release.set()
            async with asyncio.timeout(10):
                while recognizer.decoding:
                    await asyncio.sleep(0.001)
            assert closed == ["clip", "slow"]

    asyncio.run(run())


def test_overload_is_refused_before_work_and_closes_the_inputs(dark_clip: bytes) -> None:
    async def run() -> None:
        closed: list[str] = []
        engine = FakeEngine()
        async with Recognizer(engine, Bounds(max_decoding=1)) as recognizer:
            with pytest.raises(EngineOverloadedError):
                await recognizer.recognise(
                    [clip_input(dark_clip, closed), clip_input(dark_clip, closed)], recognizer.engine.model(None)
                )
        assert (closed, engine.calls) == (["clip", "clip"], 0)

    asyncio.run(run())
