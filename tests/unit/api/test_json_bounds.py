"""JSON bodies are bounded before they are parsed: bytes, number of values, depth."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path

import pytest

from sefar_serve.language import FakeGenerator

JSON = {"content-type": "application/json"}
MIB = 1024 * 1024

MANY_VALUES = b'{"input": [' + b"[]," * MIB + b"1]}"
"""3 MiB that would take the parser a second."""

ROUTES = ("classify", "embeddings", "captions", "chat/completions", "jobs")


@pytest.fixture
def everything(gateway, tmp_path: Path):
    return gateway(generator=FakeGenerator(), jobs_dir=tmp_path / "jobs", job_roots=str(tmp_path), max_job_clips=1000)


@pytest.mark.parametrize("route", ROUTES)
def test_many_values_are_refused_before_they_are_parsed(everything, route: str, monkeypatch) -> None:
    def parsed(*_: object, **__: object) -> None:
        raise AssertionError("parsed")

    monkeypatch.setattr("sefar_serve.api.encoding.from_json", parsed)
    answer = everything.post(f"/v1/{route}", content=MANY_VALUES, headers=JSON)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "json_too_large")
    packed = everything.post(
        f"/v1/{route}", content=gzip.compress(MANY_VALUES), headers=JSON | {"content-encoding": "gzip"}
    )
    assert (packed.status_code, packed.json()["error"]["code"]) == (413, "json_too_large")


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_deep_nesting_is_refused(everything, route: str, opening: bytes) -> None:
    answer = everything.post(f"/v1/{route}", content=b'{"input": ' + opening * 10_000, headers=JSON)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_json")


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("text", [b'"\\ud800"', b"NaN", b'"\xff"', b"1" * 5000])
def test_what_is_not_json_is_refused(everything, route: str, text: bytes) -> None:
    answer = everything.post(f"/v1/{route}", content=b'{"model": ' + text + b', "input": "x"}', headers=JSON)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_json")


def test_a_lone_surrogate_in_a_message(everything, dark_clip: bytes) -> None:
    url = "data:video/mp4;base64," + base64.b64encode(dark_clip).decode()
    content = [{"type": "video_url", "video_url": {"url": url}}, {"type": "text", "text": "What \ud800?"}]
    body = json.dumps({"messages": [{"role": "user", "content": content}]})
    answer = everything.post("/v1/chat/completions", content=body, headers=JSON)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_json")


@pytest.mark.parametrize("data", ["éAAA", "AAAAé", "AAAA\u2028", "ＡＡＡＡ"])
def test_base64_that_is_not_ascii(everything, data: str) -> None:
    url = f"data:video/mp4;base64,{data}"
    for answer in (
        everything.post("/v1/classify", json={"input": url}),
        everything.post("/v1/classify", files={"input": (None, url)}),
    ):
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_data_url")


def test_json_has_a_limit_of_its_own(gateway, dark_clip: bytes) -> None:
    client = gateway(max_json_bytes=len(dark_clip))
    url = "data:video/mp4;base64," + base64.b64encode(dark_clip).decode()
    refused = client.post("/v1/classify", json={"input": url})
    assert (refused.status_code, refused.json()["error"]["code"]) == (413, "body_too_large")
    assert "multipart" in refused.json()["error"]["message"]
    assert client.post("/v1/classify", files={"file": dark_clip}).status_code == 200


def test_a_length_that_is_no_length(gateway) -> None:
    for declared in ("9" * 5000, "²"):
        answer = gateway().post(
            "/v1/classify", content=b"{}", headers=JSON | {"content-length": declared.encode("latin-1")}
        )
        assert answer.status_code in (400, 413)


def test_many_commas_in_a_text_are_fine(everything, dark_clip: bytes) -> None:
    url = "data:video/mp4;base64," + base64.b64encode(dark_clip).decode()
    answer = everything.post("/v1/captions", json={"input": url, "prompt": "a, " * 50})
    assert answer.status_code == 200, answer.text


def test_what_is_unpacked_counts_as_memory_of_requests(gateway) -> None:
    client = gateway(max_buffered_bytes=MIB)
    body = b'{"input": "' + b"A" * (2 * MIB) + b'"}'
    for content, encoding in ((body, "identity"), (gzip.compress(body), "gzip")):
        answer = client.post("/v1/classify", content=content, headers=JSON | {"content-encoding": encoding})
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "overloaded")
    assert client.post("/v1/classify", json={"input": "A"}).status_code == 400


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"model": "m" * 10**6}, "model"),
        ({"window": 1, "background": "m" * 10**6}, "background"),
        ({"window": [0.5] * 100}, "window"),
        ({f"k{number}": 1 for number in range(10_000)}, None),
        ({"input": ["a"] * 10_000}, "input"),
    ],
)
def test_answers_to_long_values_are_short(gateway, more: dict[str, object], param: str | None) -> None:
    answer = gateway().post("/v1/classify", json={"input": "a", **more})
    assert answer.status_code in (400, 413)
    assert answer.json()["error"]["param"] == param
    assert len(answer.content) < 1000


def test_a_long_name_of_a_field_is_not_repeated(gateway) -> None:
    answer = gateway().post("/v1/classify", json={"input": "a", "k" * 10**6: 1})
    assert answer.status_code == 400
    assert len(answer.content) < 10_000
