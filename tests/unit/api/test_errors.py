"""Every error has its status, the common format and a helpful message."""

from __future__ import annotations

import asyncio
import base64

import pytest

from sefar_serve.api import create_app
from sefar_serve.engine import (
    EngineOverloadedError,
    EngineUnavailableError,
    FakeEngine,
    InferenceError,
)
from sefar_serve.language import FakeGenerator
from sefar_serve.settings import Settings


def error_of(answer, status: int) -> dict[str, str]:
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error"}
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    return error


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"", 422, "empty_video"),
        (b"just some words, no video at all\n" * 50, 415, "not_a_video"),
        (bytes(range(256)) * 40, 415, "not_a_video"),
    ],
)
def test_bad_videos(gateway, content: bytes, status: int, code: str) -> None:
    client = gateway()
    error = error_of(client.post("/v1/classify", content=content), status)
    assert (error["code"], error["type"], error["param"]) == (code, "invalid_request_error", "input")
    assert client.get("/readyz").status_code == 200


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "missing_input"),
        ({"input": []}, "missing_input"),
        ({"input": 5}, "missing_input"),
        ({"input": "hello"}, "invalid_data_url"),
        ({"input": "data:video/mp4;base64,@@@"}, "invalid_data_url"),
        ({"input": "data:video/mp4;base64,AAAA", "top_k": 0}, "invalid_parameter"),
        ({"input": "data:video/mp4;base64,AAAA", "topk": 3}, "invalid_parameter"),
        ({"input": "data:video/mp4;base64,AAAA", "start": "soon"}, "invalid_parameter"),
        ([1], "invalid_json"),
    ],
)
def test_bad_json(gateway, body: object, code: str) -> None:
    assert error_of(gateway().post("/v1/classify", json=body), 400)["code"] == code


def test_not_json_at_all(gateway) -> None:
    answer = gateway().post("/v1/classify", content=b"{", headers={"content-type": "application/json"})
    assert error_of(answer, 400)["code"] == "invalid_json"


def test_unknown_parameters_are_named(gateway, dark_clip: bytes) -> None:
    for answer in (
        gateway().post("/v1/classify?topk=3", content=dark_clip),
        gateway().post("/v1/classify", files={"file": dark_clip}, data={"topk": "3"}),
    ):
        assert error_of(answer, 400)["param"] == "topk"


def test_a_form_without_a_file(gateway) -> None:
    answer = gateway().post("/v1/classify", files={"video": b"x"})
    assert "file" in error_of(answer, 400)["message"]


def test_span_outside_the_video(gateway, dark_clip: bytes) -> None:
    error = error_of(gateway().post("/v1/classify?start=50", content=dark_clip), 400)
    assert error["code"] == "invalid_span"


def test_unknown_model(gateway, dark_clip: bytes) -> None:
    error = error_of(gateway().post("/v1/classify?model=gpt", content=dark_clip), 404)
    assert (error["code"], error["param"]) == ("model_not_found", "model")


def test_too_large_with_and_without_a_declared_length(gateway) -> None:
    client = gateway(max_body_bytes=1000)
    assert error_of(client.post("/v1/classify", content=b"x" * 2000), 413)["code"] == "body_too_large"
    streamed = client.post("/v1/classify", content=(b"x" * 100 for _ in range(20)))
    assert error_of(streamed, 413)["code"] == "body_too_large"


def test_too_many_clips(gateway, dark_clip: bytes) -> None:
    url = "data:video/mp4;base64," + base64.b64encode(dark_clip).decode()
    answer = gateway(max_clips=2).post("/v1/classify", json={"input": [url] * 3})
    assert error_of(answer, 413)["code"] == "too_many_clips"


def test_unknown_route_and_wrong_method(gateway) -> None:
    client = gateway()
    for path in ("/", "/v2/classify", "/static-offline-docs/none"):
        error = error_of(client.get(path), 404)
        assert error["code"] == "not_found"
        assert error["message"] == f"there is nothing at {path}; see /docs for the API"
    error = error_of(gateway(root_path="/sefar").get("/none"), 404)
    assert error["message"] == "there is nothing at /sefar/none; see /sefar/docs for the API"
    answer = client.get("/v1/classify")
    error = error_of(answer, 405)
    assert error["code"] == "method_not_allowed"
    assert error["message"] == "GET is not allowed here; allowed: POST"
    assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/healthz", "GET, HEAD"),
        ("/docs", "GET, HEAD"),
        ("/openapi.json", "GET, HEAD"),
        ("/static-offline-docs/favicon.png", "GET, HEAD"),
        ("/v1/models", "GET, HEAD"),
        ("/v1/models/fake", "GET, HEAD"),
        ("/v1/jobs", "GET, HEAD, POST"),
        ("/v1/jobs/none", "DELETE, GET, HEAD"),
        ("/v1/jobs/none/cancel", "POST"),
    ],
)
@pytest.mark.parametrize("prefix", ["", "/sefar"])
def test_405_lists_the_methods_of_every_route_of_the_path(gateway, path: str, allowed: str, prefix: str) -> None:
    answer = gateway(root_path=prefix).put(prefix + path)
    assert error_of(answer, 405)["message"] == f"PUT is not allowed here; allowed: {allowed}"
    assert answer.headers["allow"] == allowed


@pytest.mark.parametrize("route", ["classify", "embeddings", "captions"])
@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", "text/json; charset=utf-8", None])
@pytest.mark.parametrize("body", [b'{"input": "data:video/mp4;base64,AAAA"}', b" \n[1]", b"\xef\xbb\xbf{}"])
def test_json_without_its_content_type(gateway, route: str, kind: str | None, body: bytes) -> None:
    headers = {} if kind is None else {"content-type": kind}
    answer = gateway(generator=FakeGenerator()).post(f"/v1/{route}", content=body, headers=headers)
    error = error_of(answer, 415)
    assert error["code"] == "unsupported_media_type"
    assert "send Content-Type: application/json" in error["message"]
    assert (kind or "it has no Content-Type").partition(";")[0] in error["message"]


@pytest.mark.parametrize("kind", ["video/mp4", "application/octet-stream"])
def test_a_body_that_is_declared_a_video_is_decoded_as_one(gateway, kind: str) -> None:
    answer = gateway().post("/v1/classify", content=b'{"input": 1}', headers={"content-type": kind})
    assert error_of(answer, 415)["code"] == "not_a_video"


def test_a_video_with_the_content_type_that_curl_sends(gateway, dark_clip: bytes) -> None:
    headers = {"content-type": "application/x-www-form-urlencoded"}
    assert gateway().post("/v1/classify", content=dark_clip, headers=headers).status_code == 200


def test_a_request_without_a_body(gateway) -> None:
    error = error_of(gateway().post("/v1/classify"), 422)
    assert (error["code"], error["param"]) == ("empty_video", "input")
    assert error["message"].startswith("the request has no body; send a video")


@pytest.mark.parametrize(
    ("failure", "status", "retry"),
    [
        (EngineOverloadedError("full", retry_after=7), 429, "7"),
        (EngineUnavailableError("gone"), 503, "1"),
        (InferenceError("bad clip"), 500, None),
        (RuntimeError("secret detail"), 500, None),
    ],
)
def test_engine_failures(gateway, dark_clip: bytes, failure: Exception, status: int, retry: str | None) -> None:
    engine = FakeEngine()
    client = gateway(engine)
    engine.failure = failure
    answer = client.post("/v1/classify", content=dark_clip)
    error_of(answer, status)
    assert answer.headers.get("retry-after") == retry
    assert "secret" not in answer.text
    engine.failure = None
    assert client.post("/v1/classify", content=dark_clip).status_code == 200


def test_a_request_that_takes_too_long_times_out(gateway, dark_clip: bytes) -> None:
    engine = FakeEngine(delay=30)
    answer = gateway(engine, request_timeout=0.2).post("/v1/classify", content=dark_clip)
    assert error_of(answer, 504)["code"] == "timeout"
    assert engine.running == 0


def test_more_videos_than_the_queue_holds_are_refused_before_any_work(gateway, dark_clip: bytes) -> None:
    engine = FakeEngine()
    answer = gateway(engine, max_decoding=2).post("/v1/classify", files=[("file", dark_clip)] * 3)
    assert error_of(answer, 429)["code"] == "overloaded"
    assert answer.headers["retry-after"]
    assert engine.calls == 0


def test_work_is_cancelled_when_the_client_disconnects(dark_clip: bytes) -> None:
    async def run() -> None:
        engine = FakeEngine(delay=30)
        app = create_app(Settings(), engine)
        disconnect = asyncio.Event()
        messages = [{"type": "http.request", "body": dark_clip, "more_body": False}]

        async def receive() -> dict[str, object]:
            if messages:
                return messages.pop()
            await disconnect.wait()
            return {"type": "http.disconnect"}

        async def send(_: object) -> None: ...

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/classify",
            "query_string": b"",
            "headers": [],
            "server": ("test", 80),
        }
        async with app.router.lifespan_context(app), asyncio.timeout(20):
            request = asyncio.create_task(app(scope, receive, send))
            while not engine.running:
                await asyncio.sleep(0.001)
            disconnect.set()
            await request
            while engine.running:
                await asyncio.sleep(0.001)
            assert app.state.gateway.recognizer.decoding == 0

    asyncio.run(run())


def test_a_url_of_a_host_that_is_not_allowed(gateway) -> None:
    answer = gateway().post("/v1/classify", json={"input": "https://example.com/a.mp4"})
    assert error_of(answer, 403)["code"] == "url_not_allowed"
