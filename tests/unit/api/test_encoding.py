"""Compressed requests, and data URLs as different tools write them."""

from __future__ import annotations

import base64
import gzip
import json
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from sefar_serve.api.payload import DataUrlError, decode_data_url
from sefar_serve.language import FakeGenerator

Gateway = Callable[..., TestClient]

JSON = {"content-type": "application/json"}
MIB = 1024 * 1024


def data_url(video: bytes) -> str:
    return "data:video/mp4;base64," + base64.b64encode(video).decode()


def error_of(answer: Any, status: int) -> dict[str, str]:
    assert answer.status_code == status, answer.text
    found: dict[str, str] = answer.json()["error"]
    return found


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "x-gzip", "identity, gzip"])
def test_gzipped_json_is_accepted_on_every_route(
    gateway: Gateway, bright_clip: bytes, tmp_path: Path, coding: str
) -> None:
    (tmp_path / "a.mp4").write_bytes(bright_clip)
    client = gateway(generator=FakeGenerator(), jobs_dir=tmp_path / "jobs", job_roots=str(tmp_path))
    part = {"type": "video_url", "video_url": {"url": data_url(bright_clip)}}
    for route, body, status in (
        ("classify", {"input": data_url(bright_clip)}, 200),
        ("embeddings", {"input": data_url(bright_clip)}, 200),
        ("captions", {"input": data_url(bright_clip)}, 200),
        (
            "chat/completions",
            {"messages": [{"role": "user", "content": [part, {"type": "text", "text": "What?"}]}]},
            200,
        ),
        ("jobs", {"input": [{"path": "a.mp4"}]}, 202),
    ):
        content = gzip.compress(json.dumps(body).encode())
        answer = client.post(f"/v1/{route}", content=content, headers=JSON | {"content-encoding": coding})
        assert answer.status_code == status, answer.text


def test_several_gzip_members_and_no_encoding(gateway: Gateway, bright_clip: bytes) -> None:
    client = gateway()
    plain = json.dumps({"input": data_url(bright_clip)}).encode()
    members = gzip.compress(plain[:100]) + gzip.compress(plain[100:])
    assert client.post("/v1/classify", content=members, headers=JSON | {"content-encoding": "gzip"}).status_code == 200
    for coding in ("identity", ""):
        answer = client.post("/v1/classify", content=plain, headers=JSON | {"content-encoding": coding})
        assert answer.status_code == 200


def test_a_gzip_bomb_stops_at_the_limit(gateway: Gateway) -> None:
    limit = MIB
    bomb = gzip.compress(b" " * MIB) * 500
    assert len(bomb) < limit
    client = gateway(max_body_bytes=limit)
    tracemalloc.start()
    try:
        answer = client.post("/v1/classify", content=bomb, headers=JSON | {"content-encoding": "gzip"})
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    error = error_of(answer, 413)
    assert error["code"] == "body_too_large"
    assert f"inflates to more than {limit} bytes" in error["message"]
    assert peak < 20 * MIB
    assert client.post("/v1/classify", json={"input": []}).status_code == 400


def test_the_size_limit_also_applies_to_the_compressed_body(gateway: Gateway) -> None:
    content = gzip.compress(bytes(range(256)) * 8, compresslevel=0)
    answer = gateway(max_body_bytes=1000).post(
        "/v1/classify", content=content, headers=JSON | {"content-encoding": "gzip"}
    )
    assert error_of(answer, 413)["code"] == "body_too_large"


@pytest.mark.parametrize("break_it", [lambda b: b[:-12], lambda b: b"{" + b, lambda b: b[:40] + b"x" * 30 + b[70:]])
def test_broken_gzip(gateway: Gateway, break_it: Callable[[bytes], bytes]) -> None:
    content = break_it(gzip.compress(json.dumps({"input": list(range(200))}).encode()))
    answer = gateway().post("/v1/classify", content=content, headers=JSON | {"content-encoding": "gzip"})
    error = error_of(answer, 400)
    assert error["code"] == "invalid_encoding"
    assert "not valid gzip" in error["message"]


def test_the_error_for_other_encodings_says_what_to_do(gateway: Gateway) -> None:
    client = gateway(generator=FakeGenerator())
    for coding, content in (
        ("deflate", zlib.compress(b"{}")),
        ("br", b"{}"),
        ("gzip, gzip", gzip.compress(gzip.compress(b"{}"))),
    ):
        for route in ("classify", "chat/completions"):
            answer = client.post(f"/v1/{route}", content=content, headers=JSON | {"content-encoding": coding})
            error = error_of(answer, 415)
            assert error["code"] == "unsupported_encoding"
            assert coding in error["message"]
            assert "gzip" in error["message"]


def test_a_compressed_video_is_refused(gateway: Gateway, bright_clip: bytes, tmp_path: Path) -> None:
    client = gateway(jobs_dir=tmp_path / "jobs")
    form = client.build_request("POST", "/v1/classify", files={"file": bright_clip})
    packed = {"content-encoding": "gzip"}
    for route, content, kind in (
        ("classify", bright_clip, "video/mp4"),
        ("classify", form.read(), form.headers["content-type"]),
        ("jobs", form.read(), form.headers["content-type"]),
    ):
        headers = packed | {"content-type": kind}
        answer = client.post(f"/v1/{route}", content=gzip.compress(content), headers=headers)
        error = error_of(answer, 415)
        assert error["code"] == "unsupported_encoding"
        assert "without Content-Encoding" in error["message"]


PLAIN = b"some bytes of a video" * 9
WRAPPED = base64.encodebytes(PLAIN).decode()


@pytest.mark.parametrize(
    "url",
    [
        "data:video/mp4;base64," + base64.b64encode(PLAIN).decode(),
        "DATA:video/mp4;BASE64," + base64.b64encode(PLAIN).decode(),
        "data:;base64," + base64.b64encode(PLAIN).decode(),
        'data:video/mp4;codecs="avc1.640028";name=a.mp4;base64,' + base64.b64encode(PLAIN).decode(),
        "data:video/mp4;base64," + WRAPPED,
        "data:video/mp4;base64,\r\n" + WRAPPED.replace("\n", "\r\n\t "),
    ],
)
def test_data_urls_as_common_tools_write_them(url: str) -> None:
    assert WRAPPED.count("\n") > 2
    assert decode_data_url(url, "input[0]") == PLAIN


@pytest.mark.parametrize(
    "url",
    [
        "data:video/mp4,AAAA",
        "data:base64,AAAA",
        "data:video/mp4;base64",
        "date:video/mp4;base64,AAAA",
        "data:video/mp4;base64,AAA",
        "data:video/mp4;base64,AA-_",
        "data:video/mp4;base64,AA=A",
        "data:video/mp4;base64,ÄÄÄÄ",
        "data:vidéo/mp4;base64,\u00a0AAAA",
        "ünknown",
    ],
)
def test_invalid_data_urls(gateway: Gateway, url: str) -> None:
    with pytest.raises(DataUrlError, match=r"input\[0\]"):
        decode_data_url(url, "input[0]")
    answer = gateway().post("/v1/classify", content=json.dumps({"input": url}), headers=JSON)
    assert error_of(answer, 400)["code"] == "invalid_data_url"


def test_a_wrapped_data_url_over_http(gateway: Gateway, bright_clip: bytes) -> None:
    url = "DATA:video/mp4;name=a;Base64," + base64.encodebytes(bright_clip).decode()
    client = gateway()
    as_json = client.post("/v1/classify", json={"input": url})
    as_field = client.post("/v1/classify", files={"input": (None, url)})
    assert as_json.json()["data"][0]["labels"] == as_field.json()["data"][0]["labels"]


def test_a_body_that_was_compressed_twice(gateway: Gateway) -> None:
    twice = gzip.compress(gzip.compress(b"{}"))
    answer = gateway().post("/v1/classify", content=twice, headers=JSON | {"content-encoding": "gzip"})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["code"] == "invalid_encoding"
    assert error["message"] == "the body is still compressed after gzip; compress it once"
