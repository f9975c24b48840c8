"""The estimator that a model asks for: loaded once and late, and refused if it is not the one of the training."""

from __future__ import annotations

import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pose_models import BOTH, POSE

from sefar_serve import assemble
from sefar_serve.engine import FAKE_METADATA
from sefar_serve.pose import Estimators, PoseMismatchError, PoseSetupError
from sefar_serve.pose.fake import FakeEstimator
from sefar_serve.settings import read_settings


def test_it_is_loaded_once_and_only_for_models_that_need_it() -> None:
    made: list[FakeEstimator] = []

    def make() -> FakeEstimator:
        made.append(FakeEstimator())
        return made[-1]

    estimators = Estimators(make)
    assert estimators.of(FAKE_METADATA) is None
    assert not made
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(estimators.of, [POSE, BOTH] * 16))
    assert found == set(made) and len(made) == 1


def test_a_failed_load_is_tried_again() -> None:
    failures = [PoseSetupError("no index")]

    def make() -> FakeEstimator:
        if failures:
            raise failures.pop()
        return FakeEstimator()

    estimators = Estimators(make)
    with pytest.raises(PoseSetupError, match="no index"):
        estimators.of(POSE)
    assert estimators.of(POSE) is not None


def test_a_pickled_copy_loads_its_own() -> None:
    estimators = Estimators(FakeEstimator)
    here = estimators.of(POSE)
    there = pickle.loads(pickle.dumps(estimators)).of(POSE)
    assert isinstance(there, FakeEstimator) and there is not here


@pytest.mark.parametrize("change", [{"estimator": "other"}, {"estimator_sha256": "1" * 64}])
def test_another_estimator_is_refused(change: dict[str, str]) -> None:
    with pytest.raises(PoseMismatchError, match=r"poses was trained with .* but fake .* is installed") as told:
        Estimators(FakeEstimator).of(POSE.model_copy(update=change))
    assert (told.value.status, told.value.code) == (503, "pose_mismatch")


def test_other_joints_are_refused() -> None:
    with pytest.raises(PoseMismatchError, match=r"trained on the joints nose, tail, but this version .* finds nose"):
        Estimators(FakeEstimator).of(POSE.model_copy(update={"joints": ("nose", "tail")}))


def test_a_missing_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    monkeypatch.delitem(sys.modules, "ai_edge_litert.interpreter", raising=False)
    monkeypatch.delitem(sys.modules, "sefar_serve.pose.litert", raising=False)
    with pytest.raises(PoseSetupError, match=r"needs a pose estimator: .*pip install 'sefar-serve\[pose\]'"):
        Estimators().of(POSE)


def test_the_settings_name_the_folder_of_the_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    homes: list[Path | None] = []

    def make(home: Path | None) -> FakeEstimator:
        homes.append(home)
        return FakeEstimator()

    monkeypatch.setattr(assemble, "make_estimator", make)
    monkeypatch.setenv("SEFAR_POSE_HOME", str(tmp_path / "environment"))
    assemble.make_estimators(read_settings()).of(POSE)
    assemble.make_estimators(read_settings(["--pose-home", str(tmp_path / "flag")])).of(POSE)
    monkeypatch.delenv("SEFAR_POSE_HOME")
    assemble.make_estimators(read_settings()).of(POSE)
    assert homes == [tmp_path / "environment", tmp_path / "flag", None]
