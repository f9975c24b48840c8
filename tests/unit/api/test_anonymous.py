"""With `anonymous` only joints are kept: models that see pictures are refused, videos are dropped once decoded."""

from __future__ import annotations

import io
import weakref
from pathlib import Path
from typing import Any

import pytest
from coloured_persons import walking_person
from fastapi.testclient import TestClient
from pose_models import BOTH, POSE, fake_estimators

from sefar_serve.api.app import create_app
from sefar_serve.engine import FakeEngine
from sefar_serve.engine.fake import FAKE_METADATA
from sefar_serve.language import FakeGenerator
from sefar_serve.metadata import ModelMetadata
from sefar_serve.pose import NotAnonymousError, Picture
from sefar_serve.settings import Settings


def anonymous(metadata: ModelMetadata, **settings: Any) -> TestClient:
    app = create_app(
        Settings(decode_threads=1, anonymous=True, **settings),
        FakeEngine(metadata),
        FakeGenerator(),
        estimators=fake_estimators(anonymous=True),
    )
    return TestClient(app)


@pytest.mark.parametrize(("metadata", "seen"), [(FAKE_METADATA, "pictures"), (BOTH, "pictures and joints")])
def test_the_gateway_does_not_start_with_a_model_of_pictures(metadata: ModelMetadata, seen: str) -> None:
    # With the estimators that the settings make.
    app = create_app(Settings(decode_threads=1, anonymous=True), FakeEngine(metadata))
    with pytest.raises(NotAnonymousError, match=f"sees {seen}; use a model whose `stream` is pose"), TestClient(app):
        pass


def test_readiness_says_that_it_is_on() -> None:
    with anonymous(POSE) as gateway:
        assert gateway.get("/readyz").json()["anonymous"] is True


def test_no_picture_outlives_its_request(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures: list[weakref.ref[Picture]] = []
    made = Picture.__init__

    def noted(self: Picture, *arguments: Any) -> None:
        made(self, *arguments)
        pictures.append(weakref.ref(self))

    monkeypatch.setattr(Picture, "__init__", noted)
    upload = io.BytesIO(walking_person())
    with anonymous(POSE) as gateway:
        answer = gateway.post("/v1/classify", files={"file": ("walking.mp4", upload)}, params={"window": 1})
        assert answer.status_code == 200, answer.text
        assert gateway.post("/v1/captions", content=walking_person()).status_code == 200
        assert len(pictures) == 3 * 8 + 8
        assert not any(picture() for picture in pictures)
        [stored] = [clip.window for clip in gateway.app.state.gateway.clips._clips.values()]  # type: ignore[attr-defined]
        assert not stored.clip.inputs and stored.clip.poses is not None


def test_what_a_killed_gateway_had_fetched_is_deleted_at_the_start(tmp_path: Path) -> None:
    settings = {"jobs_dir": tmp_path / "jobs", "job_roots": (tmp_path,)}
    with anonymous(POSE, **settings) as gateway:
        job = gateway.post("/v1/jobs", json={"input": [{"path": "gone.mp4"}]}).json()["id"]
        gateway.post(f"/v1/jobs/{job}/cancel")
    left = tmp_path / "jobs" / job / "fetched"
    left.mkdir(exist_ok=True)
    (left / "video").write_bytes(walking_person())
    with anonymous(POSE, **settings):
        assert not left.exists()
