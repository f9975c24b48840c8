"""A tiny model of joints from a video to a client: over HTTP with the model in process and on a real tritonserver."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from coloured_persons import walking_person
from gateway_thread import GatewayThread
from PIL import Image
from pose_models import BOTH, POSE, fake_estimators, write_tiny_model
from typer.testing import CliRunner

from sefar_client import Client, GatewayError, PoseInfo
from sefar_features import open_features
from sefar_serve.api.app import create_app
from sefar_serve.assemble import make_engine
from sefar_serve.cli import app
from sefar_serve.inputs import load_inputs
from sefar_serve.pose import JOINTS
from sefar_serve.settings import Settings
from sefar_serve.triton_server.repository import publish
from sefar_serve.triton_server.server import TritonServer
from sefar_serve.triton_server.wheel import TritonHome


def served(settings: Settings, *, anonymous: bool = False) -> GatewayThread:
    estimators = fake_estimators(anonymous=anonymous)
    return GatewayThread(create_app(settings, make_engine(settings), estimators=estimators))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {meta.name: write_tiny_model(folder / f"{meta.name}.onnx", meta) for meta in (POSE, BOTH)}


@pytest.fixture(scope="module")
def triton(
    triton_home: TritonHome, models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TritonServer]:
    folder = tmp_path_factory.mktemp("triton")
    publish(models["poses"], folder / "models", "poses")
    with TritonServer(triton_home, folder / "models", log=folder / "log") as running:
        yield running


def check(pose: PoseInfo | None, persons: int) -> None:
    expected = load_inputs(walking_person(), POSE if persons == 1 else BOTH, fake_estimators()).poses
    assert pose is not None and expected is not None
    assert pose.joint_names == list(JOINTS)
    np.testing.assert_array_equal(pose.joints, expected.joints)
    np.testing.assert_array_equal(pose.image, expected.image)
    np.testing.assert_array_equal(pose.presence, expected.presence)
    assert str(pose).startswith("person found in 8 of 8" if persons == 1 else "first person found in 8 of 8")


@pytest.mark.parametrize(("name", "persons"), [("poses", 1), ("both", 2)])
def test_clients_get_the_joints_that_the_model_saw(models: dict[str, Path], name: str, persons: int) -> None:
    with (
        served(Settings(model=models[name], decode_threads=1, device="cpu")) as url,
        Client(url, patience=0) as client,
    ):
        for result in (client.classify(walking_person(), poses=True), client.embed(walking_person(), poses=True)):
            check(result.clip.pose, persons)
        windows = client.embed(walking_person(), poses=True, window=1).timeline
        assert windows is not None
        for window in windows:
            assert window.pose is not None and window.pose.joints is not None
            assert window.pose.joints.shape == (8, persons, 15, 4)
        plain = client.classify(walking_person()).clip.pose
        assert plain is not None and plain.joints is None


def test_a_model_of_pictures_has_none(untrained_model: Path) -> None:
    with (
        served(Settings(model=untrained_model, decode_threads=1, device="cpu")) as url,
        Client(url, patience=0) as client,
    ):
        assert client.classify(walking_person()).clip.pose is None
        with pytest.raises(GatewayError, match="sees no joints") as told:
            client.classify(walking_person(), poses=True)
        assert (told.value.code, told.value.param) == ("no_joints", "poses")


def test_an_anonymous_gateway_before_triton(triton: TritonServer, models: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "walking.mp4").write_bytes(walking_person())
    settings = Settings(
        triton_url=triton.url,
        triton_shared_memory=True,
        decode_threads=1,
        anonymous=True,
        jobs_dir=tmp_path / "jobs",
        job_roots=(tmp_path,),
    )
    with served(settings, anonymous=True) as url, Client(url, patience=0) as client:
        check(client.classify(walking_person(), poses=True).clip.pose, 1)
        job = client.wait(client.submit([{"path": "walking.mp4"}], poses=True))
        assert (job.status, job.failed) == ("completed", 0)
        expected = load_inputs(walking_person(), POSE, fake_estimators()).poses
        assert expected is not None
        [joints] = open_features(tmp_path / "jobs" / job.id / "features").poses()
        np.testing.assert_array_equal(joints[0], expected.joints)


def test_the_command_line_draws_skeletons_from_a_gateway(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "walking.mp4").write_bytes(walking_person())
    with served(Settings(model=models["poses"], decode_threads=1, device="cpu")) as url:
        asked = ["classify", str(tmp_path / "walking.mp4"), "--url", url, "--json"]
        done = CliRunner().invoke(app, [*asked, "--sheet", str(tmp_path / "over frames.png")])
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["clip"]["pose"]["joints"] is None  # only for the sheet
        monkeypatch.setenv("SEFAR_ANONYMOUS", "1")
        done = CliRunner().invoke(app, [*asked, "--poses", "--sheet", str(tmp_path / "blank.png")])
        assert done.exit_code == 0, done.output
        assert np.shape(json.loads(done.stdout)["clip"]["pose"]["joints"]) == (8, 1, 15, 4)
    colours = {}
    for sheet in tmp_path.glob("*.png"):
        with Image.open(sheet) as picture:
            pixels = np.asarray(picture.convert("RGB")).astype(int)
        colours[sheet.stem] = bool((np.abs(pixels - (128, 128, 128)).max(axis=-1) < 4).sum() > 50_000)
    assert colours == {"over frames": True, "blank": False}  # the ground of the video is grey
