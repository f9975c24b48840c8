"""Invalid parameters are named and explained in plain words, wherever in the request they are."""

from __future__ import annotations

from pathlib import Path

import pytest
from chat_requests import CHAT, Gateway, asking, error_of

from sefar_serve.language import FakeGenerator


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("top_k=abc", "top_k: 'abc' is not a whole number"),
        ("top_k=0", "top_k: must be at least 1, not 0"),
        ("window=-1", "window: must be greater than 0, not -1"),
        ("raw_scores=perhaps", "raw_scores: 'perhaps' is not a boolean; use true or false"),
        ("topk=3", "topk: unknown parameter"),
    ],
)
def test_in_the_query_and_in_a_form(gateway: Gateway, dark_clip: bytes, query: str, sentence: str) -> None:
    client = gateway()
    name, _, value = query.partition("=")
    for answer in (
        client.post(f"/v1/classify?{query}", content=dark_clip),
        client.post("/v1/classify", files={"file": dark_clip}, data={name: value}),
    ):
        assert answer.status_code == 400
        assert error_of(answer) == {
            "message": sentence,
            "type": "invalid_request_error",
            "param": name,
            "code": "invalid_parameter",
        }


def test_in_a_conversation(gateway: Gateway) -> None:
    client = gateway(generator=FakeGenerator(), text_only_chat=True)
    assert error_of(client.post(CHAT, json={"messages": []}))["message"] == "messages: send at least one"
    picture = [{"type": "image_url", "image_url": {"url": "x"}}]
    error = error_of(client.post(CHAT, json={"messages": [{"role": "user", "content": picture}]}))
    assert error["param"] == "messages.0.content.0"
    assert error["message"].endswith("part type 'image_url' is not supported; use text or video_url")
    error = error_of(client.post(CHAT, json=asking(None, temperature="warm")))
    assert error["message"] == "temperature: 'warm' is not a number"


def test_in_jobs(gateway: Gateway, tmp_path: Path) -> None:
    client = gateway(jobs_dir=tmp_path / "jobs", job_roots=str(tmp_path))
    error = error_of(client.get("/v1/jobs?limit=many"))
    assert (error["param"], error["message"]) == ("limit", "limit: 'many' is not a whole number")
    error = error_of(client.post("/v1/jobs", json={"input": [{"path": 5}]}))
    assert (error["param"], error["message"]) == ("input.0.path", "input.0.path: must be text")
    error = error_of(client.post("/v1/jobs", json={"input": []}, headers={"idempotency-key": "k" * 256}))
    assert (error["param"], error["message"]) == (
        "idempotency-key",
        "idempotency-key: must have at most 255 characters",
    )
    error = error_of(client.get("/v1/jobs/none/result?format=csv"))
    assert error["message"] == "format: 'csv' is not supported; use parquet or jsonl"
