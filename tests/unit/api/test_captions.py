from __future__ import annotations

import base64
from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient

from sefar_serve.engine import FakeEngine
from sefar_serve.language import CAPTION_PROMPT, FakeGenerator, GenerationFailedError, GeneratorUnavailableError

Gateway = Callable[..., TestClient]

CAPTIONS = "/v1/captions"


def test_a_caption_of_each_clip_in_order(gateway: Gateway, bright_clip: bytes, dark_clip: bytes) -> None:
    generator = FakeGenerator()
    client = gateway(generator=generator)
    files = [("file", ("dark.mp4", dark_clip)), ("file", ("broken.mp4", b"no")), ("file", ("bright.mp4", bright_clip))]
    body = client.post(CAPTIONS, files=files).json()
    dark, broken, bright = body["data"]
    assert dark["object"] == bright["object"] == "caption"
    assert dark["caption"] == f"clip 0 {CAPTION_PROMPT}"
    assert bright["caption"] == f"clip 2 {CAPTION_PROMPT}"
    assert (bright["name"], bright["index"]) == ("bright.mp4", 2)
    assert bright["labels"][0]["label"] == "giant circle forward"
    assert bright["clip_id"] != dark["clip_id"]
    assert broken["object"] == "error"
    assert broken["error"]["code"] == "not_a_video"
    assert (body["model"], body["version"]) == ("fake-captioner", "0")
    assert body["usage"]["clips"] == 2
    assert body["usage"]["completion_tokens"] == 16


@pytest.mark.parametrize("form", ["raw", "multipart", "json"])
def test_the_three_forms_and_their_options(gateway: Gateway, bright_clip: bytes, form: str) -> None:
    generator = FakeGenerator("a giant circle forward in a lot of words")
    client = gateway(generator=generator)
    options = {"prompt": "Which direction?", "max_tokens": 4, "temperature": 0.5, "seed": 9, "top_k": 1}
    if form == "raw":
        response = client.post(CAPTIONS, content=bright_clip, params=options)
    elif form == "multipart":
        response = client.post(CAPTIONS, files={"file": bright_clip}, data=options)
    else:
        url = "data:video/mp4;base64," + base64.b64encode(bright_clip).decode()
        response = client.post(CAPTIONS, json={"input": url, **options})
    [item] = response.json()["data"]
    assert item["caption"] == "a giant circle forward"
    assert item["finish_reason"] == "length"
    assert item["agreement"] == "agree"
    assert len(item["labels"]) == 1
    [(messages, asked)] = generator.asked
    assert messages[0].content[1] == "Which direction?"
    assert (asked.temperature, asked.seed) == (0.5, 9)


@pytest.mark.parametrize("windows", [{}, {"window": 0.4}])
def test_a_caption_over_the_length_limit_is_cut_with_a_notice(
    gateway: Gateway, bright_clip: bytes, dark_clip: bytes, windows: dict[str, float]
) -> None:
    client = gateway(generator=FakeGenerator("giant circle forward and on"), max_tokens=3)
    files = [("file", bright_clip), ("file", dark_clip)]
    bright, dark = client.post(CAPTIONS, files=files, data={"max_tokens": 900, **windows}).json()["data"]
    said = "max_tokens was lowered from 900 to 3, the maximum for this request."
    assert bright["caption"] == "giant circle forward"
    assert bright["notice"] == said
    assert dark["agreement"] == "disagree"
    assert dark["notice"].startswith("The language model names")
    assert dark["notice"].endswith(said)
    for window in bright["timeline"] or ():
        assert window["notice"] == said


def test_one_request_does_not_fill_the_whole_queue(gateway: Gateway, bright_clip: bytes) -> None:
    class Counting(FakeGenerator):
        most = 0

        @property
        def queue_depth(self) -> int:
            return self.running

        async def generate(self, messages, options):  # type: ignore[no-untyped-def, override]
            async for piece in super().generate(messages, options):
                Counting.most = max(Counting.most, self.running)
                yield piece

    client = gateway(generator=Counting(delay=0.01), generation_batch=2)
    body = client.post(CAPTIONS, files=[("file", bright_clip)] * 6).json()
    assert len(body["data"]) == 6
    assert Counting.most == 2


def test_a_caption_of_each_window(gateway: Gateway, bright_clip: bytes, dark_clip: bytes) -> None:
    generator = FakeGenerator("giant circle forward")
    client = gateway(generator=generator)
    files = [("file", bright_clip), ("file", dark_clip)]
    answer = client.post(CAPTIONS, files=files, data={"window": 0.4, "stride": 0.2, "top_k": 1}).json()
    bright, dark = answer["data"]
    assert len(bright["timeline"]) > 2
    assert [window["caption"] for window in bright["timeline"]] == ["giant circle forward"] * len(bright["timeline"])
    assert {window["agreement"] for window in bright["timeline"]} == {"agree"}
    assert {window["agreement"] for window in dark["timeline"]} == {"disagree"}
    starts = [window["start"] for window in bright["timeline"]]
    assert starts == sorted(set(starts))
    assert bright["timeline"][0]["end"] == pytest.approx(0.4)
    assert answer["usage"]["clips"] == len(bright["timeline"]) + len(dark["timeline"]) == len(generator.asked)
    # Users can ask about each window.
    ids = [window["clip_id"] for window in bright["timeline"]]
    assert len(set(ids)) == len(ids)
    assert bright["clip_id"] in ids
    part = {"type": "video_url", "video_url": {"url": f"sefar://{ids[1]}"}}
    content = [part, {"type": "text", "text": "What is it?"}]
    asked = client.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": content}]}).json()
    assert asked["sefar"]["clips"][0]["clip_id"] == ids[1]


def test_a_failing_window_fails_only_its_video(gateway: Gateway, bright_clip: bytes, dark_clip: bytes) -> None:
    class Picky(FakeGenerator):
        async def generate(self, messages, options):  # type: ignore[no-untyped-def, override]
            if messages[0].content[0].embedding[0] == 0:
                raise GenerationFailedError("too dark")
            async for piece in super().generate(messages, options):
                yield piece

    files = [("file", dark_clip), ("file", bright_clip)]
    generator = Picky()
    dark, bright = gateway(generator=generator).post(CAPTIONS, files=files, data={"window": 0.4}).json()["data"]
    assert dark["error"]["code"] == "generation_failed"
    assert bright["object"] == "caption"
    assert generator.running == 0


def test_the_error_of_a_single_clip_is_the_response(gateway: Gateway, bright_clip: bytes) -> None:
    client = gateway(generator=FakeGenerator(failure=GeneratorUnavailableError("away")))
    assert client.post(CAPTIONS, content=bright_clip).status_code == 503
    both = client.post(CAPTIONS, files=[("file", bright_clip)] * 2)
    assert [item["error"]["code"] for item in both.json()["data"]] == ["generator_unavailable"] * 2
    assert client.post(CAPTIONS, content=b"no video").status_code == 415


def test_a_prompt_that_is_too_long_is_refused_before_any_work(gateway: Gateway, bright_clip: bytes) -> None:
    engine = FakeEngine()
    client = gateway(engine=engine, generator=FakeGenerator())
    refused = client.post(CAPTIONS, files={"file": bright_clip}, data={"prompt": "w" * 8193})
    assert refused.json()["error"]["code"] == "context_length_exceeded"
    assert engine.calls == 0


def test_no_language_model_and_an_unknown_name(gateway: Gateway, bright_clip: bytes) -> None:
    assert gateway().post(CAPTIONS, content=bright_clip).status_code == 501
    engine = FakeEngine()
    client = gateway(engine=engine, generator=FakeGenerator())
    assert client.post(CAPTIONS, content=bright_clip, params={"model": "other"}).status_code == 404
    assert engine.calls == 0


@pytest.mark.parametrize("prompt", ["", " \n"])
def test_an_empty_prompt_is_refused(gateway: Gateway, bright_clip: bytes, prompt: str) -> None:
    answer = gateway(generator=FakeGenerator()).post(CAPTIONS, files={"file": bright_clip}, data={"prompt": prompt})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "prompt: must not be empty"
