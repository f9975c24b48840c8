"""CORS: preflights and response headers. tests/e2e has the tests with a real browser."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient

from sefar_serve.engine import EngineOverloadedError, FakeEngine

Gateway = Callable[..., TestClient]

PAGE = {"origin": "https://app.example.com"}
PREFLIGHT = PAGE | {
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type,x-stainless-os",
}


def test_a_preflight_is_answered_without_a_key(gateway: Gateway) -> None:
    client = gateway(cors_origins="https://app.example.com", api_keys="secret")
    answer = client.options("/v1/classify", headers=PREFLIGHT)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "https://app.example.com"
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert answer.headers["access-control-allow-headers"] == PREFLIGHT["access-control-request-headers"]
    assert "access-control-allow-credentials" not in answer.headers
    # Without preflight headers, OPTIONS is an ordinary request and needs a key.
    assert client.options("/v1/classify").status_code == 401


@pytest.mark.parametrize("origins", ["https://app.example.com", "https://a.example.com,https://app.example.com", "*"])
def test_a_response_has_the_allowed_origin_and_the_exposed_headers(
    gateway: Gateway, dark_clip: bytes, origins: str
) -> None:
    answer = gateway(cors_origins=origins).post("/v1/classify", content=dark_clip, headers=PAGE)
    assert answer.headers["access-control-allow-origin"] == ("*" if origins == "*" else PAGE["origin"])
    exposed = answer.headers["access-control-expose-headers"].split(", ")
    timing = {name for name in answer.headers if name.startswith("x-")}
    assert len(timing) == 5
    assert timing | {"location", "retry-after"} <= set(exposed)


def test_errors_have_cors_headers_too(gateway: Gateway, dark_clip: bytes) -> None:
    engine = FakeEngine()
    client = gateway(engine, cors_origins="https://app.example.com", api_keys="secret")
    sent = PAGE | {"authorization": "Bearer secret"}
    answers = [client.post("/v1/classify", content=dark_clip, headers=PAGE)]
    for failure in (EngineOverloadedError("full"), RuntimeError("unexpected")):
        engine.failure = failure
        answers.append(client.post("/v1/classify", content=dark_clip, headers=sent))
    answers.append(client.get("/nowhere", headers=sent))
    assert [answer.status_code for answer in answers] == [401, 429, 500, 404]
    for answer in answers:
        assert answer.headers["access-control-allow-origin"] == PAGE["origin"]
        assert "x-request-id" in answer.headers
        assert set(answer.json()) == {"error"}


def test_other_origins_and_a_gateway_without_origins(gateway: Gateway) -> None:
    for client in (gateway(), gateway(cors_origins="https://other.example.com")):
        assert "access-control-allow-origin" not in client.get("/v1/models", headers=PAGE).headers
        refused = client.options("/v1/classify", headers=PREFLIGHT)
        assert refused.status_code >= 400
        assert "access-control-allow-origin" not in refused.headers
