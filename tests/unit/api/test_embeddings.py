"""POST /v1/embeddings: vectors as floats and as base64, tokens, windows."""

from __future__ import annotations

import base64

import numpy as np
from grey_clips import encode_grey_clip


def test_floats_by_default(gateway, bright_clip: bytes) -> None:
    body = gateway().post("/v1/embeddings", files={"file": bright_clip}).json()
    [item] = body["data"]
    assert item["object"] == "embedding"
    assert item["embedding"] == [2.0] * 8
    assert item["tokens"] is None


def test_base64_is_little_endian_float32(gateway, bright_clip: bytes) -> None:
    fields = {"encoding_format": "base64", "include": "embedding,tokens"}
    [item] = gateway().post("/v1/embeddings", files={"file": bright_clip}, data=fields).json()["data"]
    assert np.frombuffer(base64.b64decode(item["embedding"]), "<f4").tolist() == [2.0] * 8
    assert [len(base64.b64decode(token)) for token in item["tokens"]] == [16, 16, 16]


def test_tokens_alone(gateway, dark_clip: bytes) -> None:
    answer = gateway().post("/v1/embeddings?include=tokens", content=dark_clip)
    [item] = answer.json()["data"]
    assert item["embedding"] is None
    assert np.shape(item["tokens"]) == (3, 4)


def test_windows_give_each_vector_and_their_mean(gateway) -> None:
    clip = encode_grey_clip([20] * 25 + [230] * 25)
    fields = {"window": "1", "stride": "1"}
    [item] = gateway().post("/v1/embeddings", files={"file": clip}, data=fields).json()["data"]
    assert [window["embedding"][0] for window in item["timeline"]] == [0.0, 2.0]
    assert item["embedding"][0] == 1.0


def test_openai_shape_in_json(gateway, bright_clip: bytes) -> None:
    url = "data:video/mp4;base64," + base64.b64encode(bright_clip).decode()
    body = {"input": url, "model": "fake", "encoding_format": "base64", "user": "u"}
    answer = gateway().post("/v1/embeddings", json=body).json()
    assert answer["object"] == "list"
    assert set(answer["usage"]) >= {"prompt_tokens", "total_tokens"}
    assert isinstance(answer["data"][0]["embedding"], str)


def test_dimensions_cannot_be_changed(gateway, dark_clip: bytes) -> None:
    client = gateway()
    assert client.post("/v1/embeddings?dimensions=8", content=dark_clip).status_code == 200
    refused = client.post("/v1/embeddings?dimensions=4", content=dark_clip)
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "dimensions"
