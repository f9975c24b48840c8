"""From videos to predictions with a model that sees joints; its pose estimator is checked at the start."""

from __future__ import annotations

import asyncio

import pytest
from coloured_persons import Person, scene, video, walking_person
from pose_models import BOTH, POSE, fake_estimators

from sefar_serve.engine import FakeEngine
from sefar_serve.pose import PoseMismatchError
from sefar_serve.recognition import ClipInput, Recognised, Recognizer, Span


def recognised(engine: FakeEngine, *videos: bytes, span: Span = Span()) -> list[Recognised]:  # noqa: B008
    async def run() -> list[Recognised | Exception]:
        async with Recognizer(engine, estimators=fake_estimators()) as recognizer:
            inputs = [ClipInput(str(number), lambda one=one: one) for number, one in enumerate(videos)]
            return await recognizer.recognise(inputs, recognizer.engine.model(None), span)

    found = asyncio.run(run())
    assert all(isinstance(result, Recognised) for result in found), found
    return [result for result in found if isinstance(result, Recognised)]


def test_answers_follow_the_joints() -> None:
    leaving = scene(Person([(100, 120)] * 8 + [None] * 8))
    found = recognised(FakeEngine(POSE), walking_person(), video(leaving), video(scene()))
    assert [result.windows[0].prediction.outputs.logits.argmax() for result in found] == [2, 1, 0]
    clip = found[0].windows[0].clip
    assert clip.poses is not None and clip.poses.detected.all()
    assert found[2].windows[0].clip.warnings == ("no person found",)


def test_windows_of_a_model_of_both() -> None:
    [found] = recognised(FakeEngine(BOTH), walking_person(), span=Span(windows=(0.5,), stride=0.5))
    assert [window.start for window in found.windows] == pytest.approx([0.0, 0.5, 1.0, 1.5])
    for window in found.windows:
        assert window.clip.poses is not None
        assert not window.clip.inputs  # not needed any more


def test_other_weights_stop_the_start_and_close_the_engine() -> None:
    async def run() -> None:
        engine = FakeEngine(POSE.model_copy(update={"estimator_sha256": "1" * 64}))
        recognizer = Recognizer(engine, estimators=fake_estimators())
        with pytest.raises(PoseMismatchError, match="trained with the pose estimator fake"):
            await recognizer.start()
        assert not engine.started

    asyncio.run(run())
