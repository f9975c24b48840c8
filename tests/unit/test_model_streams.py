"""The Python API with models that see joints."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from coloured_persons import entering_person, walking_person
from pose_models import BOTH, POSE, fake_estimators

from sefar_serve.engine import FakeEngine
from sefar_serve.inputs import load_inputs
from sefar_serve.metadata import ModelMetadata
from sefar_serve.model import Model
from sefar_serve.pose import JOINTS, Estimators, NoJointsError, NotAnonymousError, PoseMismatchError
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


def test_joints_come_with_the_answer_if_requested() -> None:
    with Model(Settings(decode_threads=1), engine=pose_engine, generator=nothing, estimators=estimators) as model:
        plain = model.classify(walking_person()).clip.pose
        assert plain is not None and plain.joints is None
        assert str(plain) == "person found in 8 of 8 frames"
        expected = load_inputs(walking_person(), POSE, fake_estimators()).poses
        for found in (model.classify(walking_person(), poses=True), model.embed(walking_person(), poses=True)):
            pose = found.clip.pose
            assert pose is not None and pose.joint_names == list(JOINTS)
            np.testing.assert_array_equal(pose.joints, expected.joints)
            np.testing.assert_array_equal(pose.image, expected.image)


@pytest.mark.parametrize("meta", [POSE, BOTH], ids=["pose", "both"])
def test_a_window_without_a_person_says_so_and_does_not_stand_for_the_video(meta: ModelMetadata) -> None:
    settings = Settings(decode_threads=1)
    with Model(settings, engine=lambda _: FakeEngine(meta), generator=nothing, estimators=estimators) as model:
        found = model.classify(entering_person(), window=1, stride=1)
        assert found.timeline is not None
        empty, full = found.timeline
        assert empty.reliability >= full.reliability == found.reliability
        assert found.labels == full.labels
        assert "no person found" in empty.warnings and "no person found" not in full.warnings
        assert "[warning: no person found" in str(empty)
        assert "warning: no person found (1 of 2 windows)" in str(found)
        assert "warnings=['no person found" in repr(empty)
        assert found.segments is not None
        assert [(one.start, one.end) for one in found.segments] == [(1, 2)]
        assert model.classify(entering_person(), end=1, window=0.5).segments == []
        vectors = model.embed(entering_person(), window=1, stride=1)
        assert vectors.timeline is not None
        assert vectors.timeline[0].warnings == empty.warnings
        np.testing.assert_array_equal(vectors.embedding, vectors.timeline[1].embedding)


def test_a_clip_without_a_person_prints_its_warning() -> None:
    with Model(Settings(decode_threads=1), engine=pose_engine, generator=nothing, estimators=estimators) as model:
        found = model.classify(entering_person(), end=1)
        assert str(found).endswith("[warning: no person found]")
        assert "warnings=['no person found']" in repr(found)
        assert "warning: no person found</p>" in found._repr_html_()
        windows = model.classify(entering_person(), end=1, window=0.5, stride=0.5)
        assert "warning: no person found (2 of 2 windows)" in str(windows)


def test_a_model_of_pictures_has_no_joints() -> None:
    with (
        Model(Settings(decode_threads=1), engine=lambda _: FakeEngine(), generator=nothing) as model,
        pytest.raises(NoJointsError, match="the model fake sees no joints"),
    ):
        list(model.classify([walking_person()], poses=True))


def test_an_anonymous_model_sees_only_joints() -> None:
    settings = Settings(decode_threads=1, anonymous=True)
    model = Model(settings, engine=lambda _: FakeEngine(BOTH), generator=nothing)
    with pytest.raises(NotAnonymousError, match="the model both sees pictures and joints"):
        model.classify(walking_person())
