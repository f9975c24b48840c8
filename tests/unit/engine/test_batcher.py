"""The micro-batcher: batches, limits, cancelled clips, and clips that fail."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest

from sefar_serve.engine import EngineOverloadedError, EngineUnavailableError, InferenceError, Outputs
from sefar_serve.engine.base import Inputs
from sefar_serve.engine.batcher import MicroBatcher

POISON = 255


class Model:
    """Returns each clip's first pixel as its logits; waits for `gate` before every batch."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.entered = 0
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, inputs: Inputs) -> Outputs:
        self.entered += 1
        assert self.gate.wait(10)
        values = [int(clip.flat[0]) for clip in inputs["frames"]]
        assert [int(clip.flat[0]) for clip in inputs["poses"]] == values
        self.batches.append(values)
        if POISON in values:
            raise RuntimeError("bad clip")
        column = np.array(values, np.float32)[:, None]
        return Outputs(column, column, column[..., None], column[..., None])


def clip(value: int) -> Inputs:
    return {"frames": np.full((2, 2, 2, 3), value, np.uint8), "poses": np.full((2, 1, 15, 4), value, np.float32)}


async def until(condition) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


async def started(model: Model, **bounds: float) -> MicroBatcher:
    batcher = MicroBatcher(model, "1", **({"max_batch": 4, "max_wait": 0.0, "max_queue": 16} | bounds))
    batcher.start()
    return batcher


def test_clips_that_arrive_during_a_batch_share_the_next_one_and_keep_their_answers() -> None:
    async def run() -> None:
        model = Model()
        batcher = await started(model)
        model.gate.clear()
        tasks = [asyncio.create_task(batcher.submit(clip(i))) for i in range(7)]
        await until(lambda: batcher.depth == 3)  # 4 of 7 in the first batch
        model.gate.set()
        answers = await asyncio.gather(*tasks)
        await batcher.close()
        assert [a.outputs.logits[0] for a in answers] == list(range(7))
        assert model.batches == [[0, 1, 2, 3], [4, 5, 6]]
        assert [a.batch_size for a in answers] == [4] * 4 + [3] * 3

    asyncio.run(run())


def test_a_first_clip_waits_for_others() -> None:
    async def run() -> None:
        model = Model()
        batcher = await started(model, max_batch=2, max_wait=5.0)
        first = asyncio.create_task(batcher.submit(clip(1)))
        await asyncio.sleep(0.02)
        assert not first.done()
        await asyncio.gather(first, batcher.submit(clip(2)))
        await batcher.close()
        assert model.batches == [[1, 2]]

    asyncio.run(run())


def test_a_full_queue_refuses_at_once_and_says_when_to_retry() -> None:
    async def run() -> None:
        model = Model()
        batcher = await started(model, max_batch=1, max_queue=2)
        model.gate.clear()
        running = asyncio.create_task(batcher.submit(clip(0)))
        await until(lambda: model.entered == 1)
        waiting = [asyncio.create_task(batcher.submit(clip(i))) for i in (1, 2)]
        await until(lambda: batcher.depth == 2)
        with pytest.raises(EngineOverloadedError) as refused:
            await batcher.submit(clip(3))
        assert refused.value.retry_after >= 1
        model.gate.set()
        await asyncio.gather(running, *waiting)
        await batcher.close()
        assert [3] not in model.batches

    asyncio.run(run())


def test_a_cancelled_clip_never_reaches_the_model() -> None:
    async def run() -> None:
        model = Model()
        batcher = await started(model, max_batch=1)
        model.gate.clear()
        running = asyncio.create_task(batcher.submit(clip(0)))
        await until(lambda: model.entered == 1)
        dropped = asyncio.create_task(batcher.submit(clip(1)))
        kept = asyncio.create_task(batcher.submit(clip(2)))
        await until(lambda: batcher.depth == 2)
        dropped.cancel()
        await until(lambda: batcher.depth == 1)
        model.gate.set()
        await asyncio.gather(running, kept)
        await batcher.close()
        assert model.batches == [[0], [2]]

    asyncio.run(run())


def test_a_clip_that_breaks_a_batch_fails_alone_and_the_worker_continues() -> None:
    async def run() -> None:
        model = Model()
        batcher = await started(model)
        model.gate.clear()
        hold = asyncio.create_task(batcher.submit(clip(9)))
        await until(lambda: model.entered == 1)
        tasks = [asyncio.create_task(batcher.submit(clip(v))) for v in (1, POISON, 2)]
        await until(lambda: batcher.depth == 3)
        model.gate.set()
        await hold
        good, bad, fine = await asyncio.gather(*tasks, return_exceptions=True)
        assert (good.outputs.logits[0], fine.outputs.logits[0]) == (1, 2)
        assert isinstance(bad, InferenceError)
        assert "bad clip" in str(bad)
        assert (await batcher.submit(clip(5))).outputs.logits[0] == 5
        await batcher.close()

    asyncio.run(run())


def test_closing_finishes_waiting_clips_and_refuses_new_ones() -> None:
    async def run() -> None:
        model = Model()
        batcher = await started(model, max_batch=1)
        tasks = [asyncio.create_task(batcher.submit(clip(i))) for i in range(3)]
        await asyncio.sleep(0)
        await batcher.close()
        assert [t.result().outputs.logits[0] for t in tasks] == [0, 1, 2]
        with pytest.raises(EngineUnavailableError):
            await batcher.submit(clip(4))

    asyncio.run(run())


def test_a_batcher_that_is_not_started_is_unavailable() -> None:
    async def run() -> None:
        batcher = MicroBatcher(Model(), "1", max_batch=1, max_wait=0, max_queue=1)
        with pytest.raises(EngineUnavailableError):
            await batcher.submit(clip(0))
        await batcher.close()

    asyncio.run(run())


@pytest.mark.parametrize("bounds", [{"max_batch": 0}, {"max_queue": 0}, {"max_wait": -1.0}])
def test_invalid_limits_are_refused(bounds: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be at least"):
        MicroBatcher(Model(), "1", **({"max_batch": 1, "max_wait": 0.0, "max_queue": 1} | bounds))


def test_a_clip_that_fails_alone_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        batcher = await started(Model())
        with pytest.raises(InferenceError, match="bad clip"):
            await batcher.submit(clip(POISON))
        await batcher.close()

    asyncio.run(run())
    [record] = caplog.records
    assert record.levelname == "WARNING"
    assert "RuntimeError: bad clip" in caplog.text
