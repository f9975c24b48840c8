"""Everything around the answers: probes, models, metrics, ids, timing headers, keys, OpenAPI."""

from __future__ import annotations

import logging
import re

import pytest

from sefar_serve.api.observe import Timings
from sefar_serve.engine import EngineUnavailableError, FakeEngine, Prediction
from sefar_serve.recognition import Recognised, Window


def test_probes(gateway) -> None:
    engine = FakeEngine()
    client = gateway(engine)
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {
        "status": "ready",
        "model": "fake",
        "version": "0",
        "anonymous": False,
        "captioner": "none",
    }
    engine.failure = EngineUnavailableError("gone")
    assert client.get("/healthz").status_code == 200
    unready = client.get("/readyz")
    assert (unready.status_code, unready.headers["retry-after"]) == (503, "1")


def test_models(gateway) -> None:
    [model] = gateway().get("/v1/models").json()["data"]
    assert (model["id"], model["object"], len(model["labels"])) == ("fake", "model", 3)


def test_metrics_count_requests_clips_and_stages(gateway, dark_clip: bytes) -> None:
    client = gateway()
    client.post("/v1/classify", files=[("file", dark_clip), ("file", b"junk" * 99)])
    client.get("/nowhere/at/all")
    text = client.get("/metrics").text
    for line in (
        'sefar_requests_total{route="/v1/classify",status="200"} 1.0',
        'sefar_requests_total{route="unmatched",status="404"} 1.0',
        'sefar_clips_total{outcome="ok"} 1.0',
        'sefar_clips_total{outcome="not_a_video"} 1.0',
        "sefar_decode_seconds_count 1.0",
        "sefar_inference_seconds_count 1.0",
        "sefar_queue_depth 0.0",
        "sefar_decoding 0.0",
    ):
        assert line in text


def test_request_ids_are_echoed_or_generated(gateway) -> None:
    client = gateway()
    assert client.get("/healthz", headers={"x-request-id": "abc-1"}).headers["x-request-id"] == "abc-1"
    made = client.get("/healthz", headers={"x-request-id": "bad id\twith space"}).headers["x-request-id"]
    assert len(made) == 32


def test_timing_headers(gateway, dark_clip: bytes) -> None:
    headers = gateway().post("/v1/classify", content=dark_clip).headers
    for stage in ("total", "decode", "queue", "inference"):
        assert float(headers[f"x-{stage}-time"]) >= 0


def test_the_log_has_one_line_per_request(gateway, dark_clip: bytes, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="sefar_serve.access"):
        gateway().post("/v1/classify", content=dark_clip, headers={"x-request-id": "r1"})
    [record] = [r for r in caplog.records if r.name == "sefar_serve.access"]
    assert (record.request_id, record.route, record.status) == ("r1", "/v1/classify", 200)
    assert record.decode_ms > 0


def test_every_path_except_the_probes_requires_a_key(gateway, dark_clip: bytes) -> None:
    client = gateway(api_keys="first,second")
    assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200
    for path in ("/v1/models", "/metrics", "/nowhere", "/docs/nowhere", "/static-offline-docs"):
        refused = client.get(path)
        assert refused.status_code == 401, path
        assert refused.json()["error"]["type"] == "authentication_error"
        assert refused.headers["x-request-id"]
    assert client.post("/v1/classify", content=dark_clip).status_code == 401
    for header in ("Bearer third", "Basic first", "first", "Bearer ", "Bearer ключ".encode()):
        assert client.get("/v1/models", headers={"authorization": header}).status_code == 401
    for key in ("first", "second", "  first"):
        allowed = client.get("/v1/models", headers={"authorization": f"Bearer {key}"})
        assert allowed.status_code == 200


def test_openapi_has_the_three_body_forms_and_the_options(gateway) -> None:
    spec = gateway().get("/openapi.json").json()
    post = spec["paths"]["/v1/classify"]["post"]
    forms = post["requestBody"]["content"]
    assert {"multipart/form-data", "application/json", "application/octet-stream"} <= set(forms)
    assert {"top_k", "start", "end", "window", "stride"} <= {p["name"] for p in post["parameters"]}
    assert "input" in forms["application/json"]["schema"]["properties"]
    assert {"400", "413", "415", "422", "429", "503", "504"} <= set(post["responses"])


def test_openapi_describes_what_is_sent(gateway) -> None:
    document = gateway().get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    assert not {"HTTPValidationError", "ValidationError"} & set(schemas)
    assert "422" not in document["paths"]["/v1/models/{name}"]["get"]["responses"]
    for path, name in (("/healthz", "Liveness"), ("/readyz", "Readiness")):
        answer = document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        assert answer == {"$ref": f"#/components/schemas/{name}"}
        assert all(field["description"] for field in schemas[name]["properties"].values())
    for path in ("/v1/classify", "/v1/embeddings", "/v1/captions", "/v1/jobs"):
        for form in document["paths"][path]["post"]["requestBody"]["content"].values():
            for name, field in form["schema"].get("properties", {}).items():
                assert field["description"], (path, name)


def test_the_docs_page_loads_only_local_files(gateway) -> None:
    client = gateway()
    page = client.get("/docs").text
    scripts = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert scripts
    for script in scripts:
        assert script.startswith("/"), script
        assert client.get(script).status_code == 200


def test_the_docs_page_opens_without_a_key_and_lets_users_enter_one(gateway) -> None:
    client = gateway(api_keys="first")
    page = client.get("/docs")
    assert page.status_code == 200
    for asset in re.findall(r'(?:src|href)="([^"]+)"', page.text):
        assert client.get(asset).status_code == 200, asset
    document = client.get("/openapi.json").json()
    [(name, scheme)] = document["components"]["securitySchemes"].items()
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            open_to_all = path in ("/healthz", "/readyz")
            assert operation.get("security") == (None if open_to_all else [{name: []}]), (method, path)


def test_openapi_has_no_security_scheme_without_keys(gateway) -> None:
    document = gateway().get("/openapi.json").json()
    assert "securitySchemes" not in document["components"]
    assert not [p for p, methods in document["paths"].items() for one in methods.values() if "security" in one]


def test_every_reference_in_the_openapi_document_resolves(gateway) -> None:
    document = gateway().get("/openapi.json").json()

    def references(value: object) -> list[str]:
        if isinstance(value, dict):
            own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
            return own + [found for part in value.values() for found in references(part)]
        return [found for part in value for found in references(part)] if isinstance(value, list) else []

    found = references(document)
    assert any("ChatMessage" in reference for reference in found)
    for reference in found:
        place = document
        for step in reference.removeprefix("#/").split("/"):
            place = place[step.replace("~1", "/").replace("~0", "~")]


def test_timing_headers_have_the_slowest_clip() -> None:
    def found(decode: float, queue: float) -> Recognised:
        # Of a window only its prediction's times are read.
        prediction = Prediction(None, "1", queue, 0.0, 1)  # type: ignore[arg-type]
        return Recognised("a.mp4", (Window(0.0, 1.0, None, prediction),), decode)  # type: ignore[arg-type]

    timings = Timings()
    timings.add([found(0.5, 0.1), ValueError("no video")])
    timings.add([found(0.2, 0.3)])  # the second clip of a conversation
    assert timings.headers() == {"x-decode-time": "500.00", "x-queue-time": "300.00", "x-inference-time": "0.00"}
