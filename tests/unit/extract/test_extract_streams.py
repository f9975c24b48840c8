"""Decode processes that find joints: the same inputs as in this process, and errors that stop the run."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from coloured_persons import walking_person
from pose_models import BOTH, POSE, fake_estimators, only_here

from sefar_serve.engine import FakeEngine
from sefar_serve.extract.clips import ClipRef
from sefar_serve.extract.decoders import DecodeError, DecoderPool
from sefar_serve.extract.local import LocalBackend
from sefar_serve.extract.rows import ClipRow, RowOptions
from sefar_serve.extract.run import Work
from sefar_serve.inputs import ModelClip, load_inputs
from sefar_serve.pose import Estimators, PoseMismatchError, PoseSetupError


@pytest.fixture(scope="module")
def walking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "walking.mp4"
    path.write_bytes(walking_person())
    return path


@pytest.fixture(scope="module")
def pool() -> Iterator[DecoderPool]:
    with DecoderPool(BOTH, workers=1, slots=2, estimators=fake_estimators()) as pool:
        yield pool


async def _decoded(pool: DecoderPool, ref: ClipRef) -> ModelClip:
    async with pool.decoded(ref) as clip:
        return clip


def test_clips_equal_those_of_this_process(pool: DecoderPool, walking: Path) -> None:
    async def run() -> list[ModelClip]:
        # More at once than there are slots, and in neighbouring ones.
        refs = [ClipRef(str(i), str(walking), start=0.2 * i) for i in range(5)]
        return await asyncio.gather(*(_decoded(pool, ref) for ref in refs))

    for number, there in enumerate(asyncio.run(run())):
        here = load_inputs(walking, BOTH, fake_estimators(), start=0.2 * number or None)
        assert there.inputs.keys() == here.inputs.keys()
        for name, values in here.inputs.items():
            np.testing.assert_array_equal(there.inputs[name], values)
        assert there.poses is not None and here.poses is not None
        np.testing.assert_array_equal(there.poses.image, here.poses.image)
        assert (there.warnings, there.frame_count) == (here.warnings, here.frame_count)


def test_a_broken_video_fails_only_its_own_clip(pool: DecoderPool, walking: Path, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("not a video")
    with pytest.raises(DecodeError) as told:
        asyncio.run(_decoded(pool, ClipRef("it", str(tmp_path / "text.mp4"))))
    assert told.value.code == "not_a_video"
    assert asyncio.run(_decoded(pool, ClipRef("it", str(walking)))).frame_count == 32


def test_other_weights_stop_the_run_before_it_starts() -> None:
    other = POSE.model_copy(update={"estimator_sha256": "1" * 64})
    with pytest.raises(PoseMismatchError, match="trained with the pose estimator fake"):
        DecoderPool(other, workers=1, slots=1, estimators=fake_estimators())


def test_an_estimator_that_processes_cannot_load_stops_the_run(walking: Path) -> None:
    async def run() -> None:
        engine = FakeEngine(POSE)
        await engine.start()
        with DecoderPool(POSE, workers=1, slots=1, estimators=Estimators(only_here)) as pool:
            work = [Work(ClipRef("it", str(walking)), 0, 0)]
            async for _ in LocalBackend(engine, pool, RowOptions()).rows(work):
                raise AssertionError("the clip has a row")

    with pytest.raises(PoseSetupError, match="the pose models are gone"):
        asyncio.run(run())


def test_rows_of_a_model_of_joints(walking: Path) -> None:
    async def run() -> list[ClipRow]:
        engine = FakeEngine(POSE)
        await engine.start()
        with DecoderPool(POSE, workers=1, slots=2, estimators=fake_estimators()) as pool:
            work = [Work(ClipRef(str(n), str(walking)), 0, n) for n in range(2)]
            return [row async for _, row in LocalBackend(engine, pool, RowOptions()).rows(work)]

    for row in asyncio.run(run()):
        assert (row.error_code, row.labels[0], row.model) == (None, "c", "poses")  # every joint is visible
