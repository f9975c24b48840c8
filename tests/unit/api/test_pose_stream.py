"""The gateway with a model that sees joints: answers, the model's card, and a start without its estimator."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from coloured_persons import entering_person, scene, video, walking_person
from fastapi.testclient import TestClient
from pose_models import BOTH, POSE, fake_estimators

from sefar_serve.api.app import create_app
from sefar_serve.engine import FakeEngine
from sefar_serve.inputs import load_inputs
from sefar_serve.language import FakeGenerator
from sefar_serve.metadata import ModelMetadata
from sefar_serve.pose import PoseMismatchError
from sefar_serve.settings import Settings


def client(metadata: ModelMetadata) -> TestClient:
    app = create_app(Settings(decode_threads=1), FakeEngine(metadata), estimators=fake_estimators())
    return TestClient(app)


def test_a_video_is_classified_by_its_joints() -> None:
    with client(POSE) as gateway:
        answer = gateway.post("/v1/classify", content=walking_person(), headers={"content-type": "video/mp4"})
        assert answer.status_code == 200, answer.text
        [entry] = answer.json()["data"]
        assert entry["labels"][0]["label"] == "c"
        assert len(entry["clip"]["frames"]) == 8


@pytest.mark.parametrize(("metadata", "size"), [(POSE, None), (BOTH, 32)], ids=["pose", "both"])
def test_the_card_says_what_a_model_sees(metadata: ModelMetadata, size: int | None) -> None:
    with client(metadata) as gateway:
        [card] = gateway.get("/v1/models").json()["data"]
        assert (card["stream"], card["size"]) == (metadata.stream, size)


def test_the_gateway_does_not_start_with_other_weights() -> None:
    other = POSE.model_copy(update={"estimator_sha256": "1" * 64})
    with pytest.raises(PoseMismatchError, match="trained with the pose estimator fake"), client(other):
        pass


def test_captions_of_windows_without_a_person_do_not_stand_for_the_video() -> None:
    app = create_app(Settings(decode_threads=1), FakeEngine(POSE), FakeGenerator(), estimators=fake_estimators())
    with TestClient(app) as gateway:
        answer = gateway.post(
            "/v1/captions",
            content=entering_person(),
            params={"window": 1, "stride": 1},
            headers={"content-type": "video/mp4"},
        )
        [entry] = answer.json()["data"]
        empty, full = entry["timeline"]
        assert (empty["warnings"], full["warnings"]) == (["no person found"], [])
        assert (entry["clip_id"], entry["labels"]) == (full["clip_id"], full["labels"])
        assert entry["clip"]["warnings"] == []


def test_videos_without_a_person_have_ids_of_their_own() -> None:
    with client(POSE) as gateway:
        ids = [
            gateway.post("/v1/classify", content=video(scene() // shade)).json()["data"][0]["clip_id"]
            for shade in (1, 2, 1)
        ]
        assert ids[0] == ids[2] != ids[1]


def test_a_job_runs_in_decode_processes_that_find_joints(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "walking.mp4").write_bytes(walking_person())
    settings = Settings(decode_threads=1, jobs_dir=tmp_path / "jobs", job_roots=(tmp_path / "videos",))
    with TestClient(create_app(settings, FakeEngine(BOTH), estimators=fake_estimators())) as gateway:
        job = gateway.post("/v1/jobs", json={"input": [{"path": "walking.mp4"}]}).json()
        deadline = time.monotonic() + 60
        while job["finished"] is None and time.monotonic() < deadline:
            time.sleep(0.05)
            job = gateway.get(f"/v1/jobs/{job['id']}").json()
        assert (job["status"], job["done"], job["failed"]) == ("completed", 1, 0)


def test_a_job_stores_joints_if_requested(tmp_path: Path) -> None:
    (tmp_path / "walking.mp4").write_bytes(walking_person())
    settings = Settings(decode_threads=1, jobs_dir=tmp_path / "jobs", job_roots=(tmp_path,))
    request = {"input": [{"path": "walking.mp4"}], "poses": True}
    with TestClient(create_app(settings, FakeEngine(POSE), estimators=fake_estimators())) as gateway:
        job = gateway.post("/v1/jobs", json=request).json()
        deadline = time.monotonic() + 60
        while job["finished"] is None and time.monotonic() < deadline:
            time.sleep(0.05)
            job = gateway.get(f"/v1/jobs/{job['id']}").json()
        rows = gateway.get(f"/v1/jobs/{job['id']}/result").content
        table = pq.read_table(io.BytesIO(rows))
        expected = load_inputs(tmp_path / "walking.mp4", POSE, fake_estimators()).poses
        assert expected is not None
        np.testing.assert_array_equal(np.float32(table["poses"].to_pylist()[0]), expected.joints)
        assert json.loads(table.schema.metadata[b"sefar.poses"])["estimator"] == "fake"
        lines = gateway.get(f"/v1/jobs/{job['id']}/result?format=jsonl").text.splitlines()
        assert json.loads(lines[0])["presence"] == expected.presence.tolist()
    with TestClient(create_app(settings, FakeEngine())) as gateway:
        refused = gateway.post("/v1/jobs", json=request)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "no_joints")
