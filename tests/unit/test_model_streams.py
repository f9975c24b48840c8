"""The Python API with models that see joints."""

from __future__ import annotations

import pickle

import pytest
from coloured_persons import walking_person
from pose_models import POSE, fake_estimators

from sefar_serve.engine import FakeEngine
from sefar_serve.model import Model
from sefar_serve.pose import Estimators, PoseMismatchError
from sefar_serve.settings import Settings

OTHER = POSE.model_copy(update={"estimator": "another"})


def pose_engine(_: Settings) -> FakeEngine:
    return FakeEngine(POSE)


def estimators(_: Settings) -> Estimators:
    return fake_estimators()


def nothing(_: Settings) -> None:
    return None


def test_a_video_is_classified_by_its_joints_also_by_a_copy() -> None:
    with Model(Settings(decode_threads=1), engine=pose_engine, generator=nothing, estimators=estimators) as first:
        assert first.classify(walking_person()).best.label == "c"
        with pickle.loads(pickle.dumps(first)) as copy:
            assert copy.classify(walking_person()).best.label == "c"


def test_a_model_trained_with_other_weights_does_not_load() -> None:
    refused = Model(
        Settings(decode_threads=1), engine=lambda _: FakeEngine(OTHER), generator=nothing, estimators=estimators
    )
    with pytest.raises(PoseMismatchError, match="the pose estimator another"):
        refused.classify(walking_person())
