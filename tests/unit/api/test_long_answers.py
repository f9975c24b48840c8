"""Many long videos at once: all are answered, within one bound on windows and memory, off the event loop."""

from __future__ import annotations

import gc
import threading

import pytest
from grey_clips import encode_grey_clip

from sefar_serve.api import answers
from sefar_serve.engine import EngineOverloadedError, FakeEngine
from sefar_serve.engine.fake import FAKE_METADATA
from sefar_serve.language import FakeGenerator
from sefar_serve.schemas import render

WINDOWED = {"window": "0.2", "stride": "0.02"}

MANY_CLASSES = FAKE_METADATA.model_copy(
    update={
        "labels": tuple(f"class {n}" for n in range(300)),
        "attributes": ({},) * 300,
        "opposites": (None,) * 300,
    }
)


class Bounded(FakeEngine):
    """Refuses like an engine with a queue."""

    def __init__(self, most: int) -> None:
        super().__init__(delay=0.001)
        self._most = most
        self.highest = 0

    async def infer(self, inputs):
        if self.running >= self._most:
            raise EngineOverloadedError("full")
        self.highest = max(self.highest, self.running + 1)
        return await super().infer(inputs)


@pytest.fixture(scope="module")
def long_clip() -> bytes:
    return encode_grey_clip([20, 230] * 25)


def test_windows_of_many_videos_share_one_bound(gateway, long_clip: bytes) -> None:
    engine = Bounded(16)
    client = gateway(engine, max_queue=16)
    sent = client.post("/v1/classify", files=[("file", long_clip)] * 32, data=WINDOWED)
    found = sent.json()["data"]
    assert [one["object"] for one in found] == ["classification"] * 32
    assert all(len(one["timeline"]) > 50 for one in found)
    assert engine.highest == 8


def test_decoded_clips_are_counted_until_they_are_freed(gateway, long_clip: bytes, monkeypatch) -> None:
    client = gateway(max_decoded_bytes=1)
    recognizer = client.app.state.gateway.recognizer
    seen = []
    monkeypatch.setattr(FakeEngine, "check", lambda self: _seen(seen, recognizer.decoded_bytes))
    answer = client.post("/v1/classify", files=[("file", long_clip)] * 8, data=WINDOWED)
    assert [one["object"] for one in answer.json()["data"]] == ["classification"] * 8
    one_video = 8 * 32 * 32 * 3 * len(answer.json()["data"][0]["timeline"])
    # Two threads decode, so two videos may be over the limit.
    assert 0 < max(seen) <= 2 * one_video
    gc.collect()
    assert recognizer.decoded_bytes == 0
    assert "sefar_decoded_bytes 0.0" in client.get("/metrics").text


async def _seen(seen: list[int], held: int) -> None:
    seen.append(held)


@pytest.mark.parametrize("route", ["classify", "embeddings", "captions"])
def test_large_answers_are_made_in_another_thread_and_are_the_same(
    gateway, long_clip: bytes, monkeypatch, route: str
) -> None:
    threads = set()
    for name in ("window_labels", "window_embedding", "top_labels"):
        real = getattr(render, name)

        def noting(*given, real=real, **options):
            threads.add(threading.current_thread().name)
            return real(*given, **options)

        monkeypatch.setattr(render, name, noting)
    monkeypatch.setattr("sefar_serve.language.captions.top_labels", render.top_labels)
    client = gateway(FakeEngine(MANY_CLASSES), FakeGenerator(), max_generating=1000)
    options = WINDOWED | ({"include": "embedding,tokens"} if route == "embeddings" else {"top_k": "300"})
    monkeypatch.setattr(answers, "SMALL", 10**6)
    small = client.post(f"/v1/{route}", files={"file": long_clip}, data=options)
    assert not any(name.startswith("sefar-render") for name in threads)
    monkeypatch.setattr(answers, "SMALL", 1)
    monkeypatch.setattr(answers, "_CHUNK", 1000)
    threads.clear()
    large = client.post(f"/v1/{route}", files={"file": long_clip}, data=options)
    assert {name.partition("_")[0] for name in threads} == {"sefar-render"}
    assert large.status_code == 200
    assert large.json() == small.json()
    assert len(large.json()["data"][0]["timeline"]) > 50


def test_an_answer_has_a_limit(gateway, long_clip: bytes) -> None:
    client = gateway(FakeEngine(MANY_CLASSES), max_answer_bytes=10_000)
    answer = client.post("/v1/classify", files={"file": long_clip}, data=WINDOWED | {"top_k": "300"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "answer_too_large")
    assert client.post("/v1/classify", files={"file": long_clip}).status_code == 200
