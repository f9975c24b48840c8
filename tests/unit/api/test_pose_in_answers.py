"""Poses in answers: how often persons were found, and their joints if requested; also of windows and in base64."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest
from coloured_persons import Person, scene, video, walk, walking_person
from fastapi.testclient import TestClient
from pose_models import BOTH, POSE, fake_estimators

from sefar_serve.api.app import create_app
from sefar_serve.engine import FakeEngine
from sefar_serve.engine.fake import FAKE_METADATA
from sefar_serve.inputs import load_inputs
from sefar_serve.language import FakeGenerator
from sefar_serve.metadata import ModelMetadata
from sefar_serve.pose import JOINTS
from sefar_serve.settings import Settings

LEAVING = video(scene(Person([*walk((100, 120), count=8), *[None] * 8])))
"""The person is there in the first half."""


def posted(metadata: ModelMetadata, path: str, content: bytes, **query: Any) -> Any:
    app = create_app(Settings(decode_threads=1), FakeEngine(metadata), FakeGenerator(), estimators=fake_estimators())
    with TestClient(app) as gateway:
        return gateway.post(path, content=content, params=query, headers={"content-type": "video/mp4"})


def entry(metadata: ModelMetadata, path: str, content: bytes, **query: Any) -> Any:
    answer = posted(metadata, path, content, **query)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"][0]


@pytest.mark.parametrize("path", ["/v1/classify", "/v1/embeddings", "/v1/captions"])
def test_every_answer_says_where_persons_were_found(path: str) -> None:
    pose = entry(POSE, path, LEAVING)["clip"]["pose"]
    expected = load_inputs(LEAVING, POSE, fake_estimators()).poses
    assert expected is not None
    assert pose["estimator"] == "fake"
    assert pose["found"] == expected.detected.mean(axis=0).tolist()
    assert 0 < pose["found"][0] < 1
    np.testing.assert_allclose(pose["presence"], expected.presence)
    assert pose["joint_names"] is pose["joints"] is pose["image"] is None


def test_joints_if_requested() -> None:
    clip = entry(BOTH, "/v1/classify", LEAVING, poses=True)["clip"]
    expected = load_inputs(LEAVING, BOTH, fake_estimators()).poses
    assert expected is not None
    assert clip["pose"]["joint_names"] == list(JOINTS)
    np.testing.assert_array_equal(np.float32(clip["pose"]["joints"]), expected.joints)
    np.testing.assert_array_equal(np.float32(clip["pose"]["image"]), expected.image)
    assert np.shape(clip["pose"]["joints"]) == (8, 2, 15, 4)


def test_joints_in_base64() -> None:
    clip = entry(POSE, "/v1/embeddings", walking_person(), poses=True, encoding_format="base64")["clip"]
    expected = load_inputs(walking_person(), POSE, fake_estimators()).poses
    assert expected is not None
    for name, values in (("joints", expected.joints), ("image", expected.image)):
        assert base64.b64decode(clip["pose"][name]) == values.astype("<f4").tobytes()


@pytest.mark.parametrize("path", ["/v1/classify", "/v1/embeddings"])
def test_windows_have_their_own_joints(path: str) -> None:
    timeline = entry(POSE, path, walking_person(), poses=True, window=1, stride=1)["timeline"]
    first, second = (np.array(one["pose"]["image"])[:, 0, 0, 0] for one in timeline)
    assert first.max() < second.min()  # the person walks to the right
    timeline = entry(POSE, path, walking_person(), window=1, stride=1)["timeline"]
    assert [one["pose"] for one in timeline] == [None, None]


@pytest.mark.parametrize("path", ["/v1/classify", "/v1/embeddings"])
def test_a_model_of_pictures_has_no_joints(path: str) -> None:
    assert entry(FAKE_METADATA, path, LEAVING)["clip"]["pose"] is None
    answer = posted(FAKE_METADATA, path, LEAVING, poses=True)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "no_joints", "poses")
    assert "the model fake sees no joints" in error["message"]


def test_the_time_for_joints_is_separate() -> None:
    headers = posted(POSE, "/v1/classify", LEAVING).headers
    assert float(headers["x-pose-time"]) > 0
    assert float(headers["x-decode-time"]) > 0
    assert "x-pose-time" not in posted(FAKE_METADATA, "/v1/classify", LEAVING).headers


def test_a_stored_clip_is_asked_about_again() -> None:
    app = create_app(Settings(decode_threads=1), FakeEngine(POSE), FakeGenerator(), estimators=fake_estimators())
    with TestClient(app) as gateway:
        sent = gateway.post("/v1/classify", content=LEAVING, headers={"content-type": "video/mp4"}).json()["data"][0]
        content = [
            {"type": "video_url", "video_url": {"url": f"sefar://{sent['clip_id']}"}},
            {"type": "text", "text": "What is it?"},
        ]
        answer = gateway.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": content}]})
        assert answer.status_code == 200, answer.text
        [seen] = answer.json()["sefar"]["clips"]
        assert seen["clip"]["pose"] == sent["clip"]["pose"]
        assert "sefar_pose_seconds_count 1.0" in gateway.get("/metrics").text
