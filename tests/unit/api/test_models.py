"""The list of models, and how requests name a model."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from sefar_serve.engine import FAKE_METADATA, FakeEngine
from sefar_serve.language import FakeGenerator

Gateway = Callable[..., TestClient]


def test_one_model_by_name_version_and_default(gateway: Gateway) -> None:
    client = gateway(generator=FakeGenerator())
    [listed, captioner] = client.get("/v1/models").json()["data"]
    for name in ("fake", "fake:0", "default"):
        assert client.get(f"/v1/models/{name}").json() == listed
    assert client.get("/v1/models/fake-captioner").json() == captioner
    assert client.get("/v1/models/").json() == client.get("/v1/models").json()


def test_an_unknown_model_with_and_without_a_captioner(gateway: Gateway) -> None:
    said = "there is no model 'other'; the available model (version) is fake (0)"
    assert gateway().get("/v1/models/other").json()["error"]["message"] == said
    error = gateway(generator=FakeGenerator()).get("/v1/models/other").json()["error"]
    assert error["message"] == f"{said}; the captioner is fake-captioner"


def test_a_name_may_contain_slashes(gateway: Gateway) -> None:
    client = gateway(FakeEngine(FAKE_METADATA.model_copy(update={"name": "lab/sefar", "version": "3"})))
    for name in ("lab/sefar", "lab%2Fsefar", "lab/sefar:3"):
        assert client.get(f"/v1/models/{name}").json()["id"] == "lab/sefar"


@pytest.mark.parametrize("name", ["gpt-4o", "fake:1", "fake/0", "captioner"])
def test_an_unknown_model(gateway: Gateway, name: str) -> None:
    answer = gateway(generator=FakeGenerator()).get(f"/v1/models/{name}")
    assert answer.status_code == 404
    error = answer.json()["error"]
    assert (error["code"], error["type"], error["param"]) == ("model_not_found", "not_found_error", "model")
    assert name in error["message"]


@pytest.mark.parametrize("named", [{"model": "default"}, {"model": ""}, {}])
def test_every_route_takes_the_default_model(
    gateway: Gateway, bright_clip: bytes, tmp_path: Path, named: dict[str, str]
) -> None:
    (tmp_path / "a.mp4").write_bytes(bright_clip)
    client = gateway(generator=FakeGenerator(), jobs_dir=tmp_path / "jobs", job_roots=str(tmp_path))
    url = "data:video/mp4;base64," + base64.b64encode(bright_clip).decode()
    for route, answered_by in (("classify", "fake"), ("embeddings", "fake"), ("captions", "fake-captioner")):
        for answer in (
            client.post(f"/v1/{route}", content=bright_clip, params=named),
            client.post(f"/v1/{route}", files={"file": bright_clip}, data=named),
            client.post(f"/v1/{route}", json={"input": url, **named}),
        ):
            assert answer.status_code == 200, answer.text
            assert answer.json()["model"] == answered_by
    parts = [{"type": "video_url", "video_url": {"url": url}}, {"type": "text", "text": "What is it?"}]
    chat = client.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": parts}], **named})
    assert chat.json()["model"] == "fake-captioner"
    job = client.post("/v1/jobs", json={"input": [{"path": "a.mp4"}], **named})
    assert (job.status_code, job.json()["model"]) == (202, "fake")


def test_all_names_of_the_default_model_give_the_same_job(gateway: Gateway, bright_clip: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(bright_clip)
    client = gateway(jobs_dir=tmp_path / "jobs", job_roots=str(tmp_path))

    def submitted(**named: str) -> Any:
        body = {"input": [{"path": "a.mp4"}], **named}
        return client.post("/v1/jobs", json=body, headers={"idempotency-key": "once"}).json()

    assert submitted()["id"] == submitted(model="default")["id"]


def test_head_returns_the_headers_of_get_without_a_body(gateway: Gateway, bright_clip: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(bright_clip)
    client = gateway(jobs_dir=tmp_path / "jobs", job_roots=str(tmp_path))
    location = client.post("/v1/jobs", json={"input": [{"path": "a.mp4"}]}).headers["location"]
    deadline = time.monotonic() + 30
    while client.head(f"{location}/result").status_code == 409 and time.monotonic() < deadline:
        time.sleep(0.05)
    for path in (
        *("/healthz", "/readyz", "/metrics", "/v1/models", "/v1/models/", "/v1/models/fake"),
        *("/docs", "/docs/oauth2-redirect", "/openapi.json"),
        *("/v1/jobs", location, f"{location}/result", f"{location}/result?format=jsonl"),
    ):
        head, get = client.head(path), client.get(path)
        assert (head.status_code, head.content) == (200, b""), path
        assert head.headers["content-type"] == get.headers["content-type"]
        if path != "/metrics":  # it counts the requests in between
            assert head.headers["content-length"] == str(len(get.content)), path
    assert client.head("/v1/models/none").status_code == 404
    assert client.head("/v1/jobs/none/result").status_code == 404
    assert client.head("/v1/classify").status_code == 405


def test_head_is_not_in_the_openapi_document(gateway: Gateway) -> None:
    paths = gateway().get("/openapi.json").json()["paths"]
    assert "get" in paths["/v1/models/{name}"]
    assert not [path for path, methods in paths.items() if "head" in methods]
