from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from sefar_serve.engine import FAKE_METADATA, FakeEngine
from sefar_serve.language import (
    AdapterMismatchError,
    ClipFeatures,
    FakeGenerator,
    GenerationFailedError,
    GenerationOptions,
    GeneratorOverloadedError,
    GeneratorUnavailableError,
)
from sefar_serve.metadata import ModelMetadata

Gateway = Callable[..., TestClient]

CHAT = "/v1/chat/completions"


def data_url(video: bytes) -> str:
    return "data:video/mp4;base64," + base64.b64encode(video).decode()


def asking(video: bytes | str | None, text: str = "What is it?", **more: Any) -> dict[str, Any]:
    content: list[dict[str, Any]] = [{"type": "text", "text": text}]
    if video is not None:
        url = video if isinstance(video, str) else data_url(video)
        content.insert(0, {"type": "video_url", "video_url": {"url": url}})
    return {"messages": [{"role": "user", "content": content}], **more}


def events(client: TestClient, body: dict[str, Any]) -> list[Any]:
    with client.stream("POST", CHAT, json={**body, "stream": True}) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = [line.removeprefix("data: ") for line in response.iter_lines() if line]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def error_of(response: Any) -> dict[str, Any]:
    found: dict[str, Any] = response.json()["error"]
    return found


def test_an_answer_in_openais_format(gateway: Gateway, bright_clip: bytes) -> None:
    generator = FakeGenerator()
    client = gateway(generator=generator)
    body = client.post(CHAT, json=asking(bright_clip, "What is it?", max_tokens=50, temperature=0.5, seed=3)).json()
    assert body["object"] == "chat.completion"
    assert body["model"] == "fake-captioner"
    [choice] = body["choices"]
    assert choice["message"] == {"role": "assistant", "content": "clip 2 What is it?", "refusal": None}
    assert choice["finish_reason"] == "stop"
    assert body["usage"] == {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
    [(messages, options)] = generator.asked
    assert (options.max_tokens, options.temperature, options.seed) == (50, 0.5, 3)
    clip, text = messages[0].content
    assert isinstance(clip, ClipFeatures)
    assert clip.embedding.shape == (8,)
    assert clip.tokens.shape == (3, 4)
    assert text == "What is it?"


def test_every_answer_has_the_classifiers_labels(gateway: Gateway, bright_clip: bytes) -> None:
    block = (
        gateway(generator=FakeGenerator("a giant circle forward")).post(CHAT, json=asking(bright_clip)).json()["sefar"]
    )
    [clip] = block["clips"]
    assert clip["labels"][0]["label"] == "giant circle forward"
    assert 0 < clip["reliability"] <= 1
    assert len(clip["clip"]["frames"]) == 8
    assert (block["agreement"], block["named_label"]) == ("agree", "giant circle forward")
    assert block["notice"] is None
    assert block["abstained"] is False


def test_a_text_that_contradicts_the_classifier_has_a_notice(gateway: Gateway, bright_clip: bytes) -> None:
    client = gateway(generator=FakeGenerator("A salto forward tucked."))
    body = client.post(CHAT, json=asking(bright_clip)).json()
    assert body["choices"][0]["message"]["content"] == "A salto forward tucked."
    assert body["sefar"]["agreement"] == "disagree"
    assert body["sefar"]["named_label"] == "salto forward tucked"
    assert "the classifier giant circle forward" in body["sefar"]["notice"]
    assert body["sefar"]["abstained"] is False


@pytest.mark.parametrize("stream", [False, True])
def test_a_contradicting_text_is_withheld_if_eta_is_low(gateway: Gateway, bright_clip: bytes, stream: bool) -> None:
    client = gateway(generator=FakeGenerator("A salto forward tucked."), abstain_below=1.0)
    if stream:
        *_, last, done = events(client, asking(bright_clip))
        text = "".join(e["choices"][0]["delta"].get("content", "") for e in [*_, last])
        block = last["sefar"]
        assert done == "[DONE]"
    else:
        body = client.post(CHAT, json=asking(bright_clip)).json()
        text, block = body["choices"][0]["message"]["content"], body["sefar"]
    assert text.startswith(
        "Not sure. The language model names salto forward tucked, the classifier giant circle forward"
    )
    assert block["abstained"] is True
    # A text that agrees is not withheld, and a request may set its own threshold.
    sure = client.post(CHAT, json=asking(bright_clip, abstain_below=0.0)).json()
    assert sure["choices"][0]["message"]["content"] == "A salto forward tucked."


def test_a_text_that_names_no_class_is_not_judged(gateway: Gateway, bright_clip: bytes) -> None:
    block = gateway(generator=FakeGenerator("Two turns.")).post(CHAT, json=asking(bright_clip)).json()["sefar"]
    assert (block["agreement"], block["named_label"], block["notice"]) == (None, None, None)


def test_a_stream_carries_the_same_text_in_parts(gateway: Gateway, bright_clip: bytes) -> None:
    client = gateway(generator=FakeGenerator())
    opening, *deltas, closing, usage, done = events(client, asking(bright_clip, stream_options={"include_usage": True}))
    assert opening["choices"][0]["delta"]["role"] == "assistant"
    parts = [event["choices"][0]["delta"]["content"] for event in deltas]
    assert len(parts) == 5
    assert "".join(parts) == "clip 2 What is it?"
    assert closing["choices"][0]["finish_reason"] == "stop"
    assert closing["sefar"]["clips"][0]["labels"][0]["label"] == "giant circle forward"
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 5
    assert done == "[DONE]"
    assert len({event["id"] for event in (opening, *deltas, closing, usage)}) == 1
    assert all(event["object"] == "chat.completion.chunk" for event in (opening, *deltas, closing, usage))


def test_an_error_in_mid_stream_ends_it(gateway: Gateway, bright_clip: bytes) -> None:
    generator = FakeGenerator(failure=GeneratorUnavailableError("it went away"), fail_after=2)
    *before, last = events(gateway(generator=generator), asking(bright_clip))
    assert len(before) == 3
    assert last["error"]["code"] == "generator_unavailable"
    assert generator.running == 0


def test_a_question_about_a_stored_clip(gateway: Gateway, bright_clip: bytes) -> None:
    engine = FakeEngine()
    client = gateway(engine=engine, generator=FakeGenerator())
    first = client.post("/v1/classify", content=bright_clip).json()["data"][0]["clip_id"]
    assert client.post("/v1/embeddings", content=bright_clip).json()["data"][0]["clip_id"] == first
    calls = engine.calls
    body = client.post(CHAT, json=asking(f"sefar://{first}")).json()
    assert body["choices"][0]["message"]["content"] == "clip 2 What is it?"
    assert body["sefar"]["clips"][0]["clip_id"] == first
    assert engine.calls == calls
    gone = client.post(CHAT, json=asking("sefar://clip_000"))
    assert gone.status_code == 404
    assert error_of(gone)["code"] == "clip_not_found"


def test_an_unusable_clip_is_refused_before_the_others_are_processed(gateway: Gateway, bright_clip: bytes) -> None:
    engine = FakeEngine()
    client = gateway(engine=engine, generator=FakeGenerator())
    for url in ("sefar://clip_000", "https://example.com/a.mp4"):
        parts = asking(bright_clip)["messages"][0]["content"] + asking(url)["messages"][0]["content"]
        refused = client.post(CHAT, json={"messages": [{"role": "user", "content": parts}]})
        assert error_of(refused)["code"] in ("clip_not_found", "url_not_allowed")
    assert engine.calls == 0


def test_a_stored_clip_of_a_model_that_the_captioner_cannot_read(gateway: Gateway, bright_clip: bytes) -> None:
    class Particular(FakeGenerator):
        def fits(self, metadata: ModelMetadata) -> None:
            if metadata.name != FAKE_METADATA.name:
                raise AdapterMismatchError("another encoder")

    client = gateway(generator=Particular())
    seen = client.post("/v1/classify", content=bright_clip).json()["data"][0]["clip_id"]
    clips = client.app.state.gateway.clips  # type: ignore[attr-defined]
    other = clips.put("a.mp4", clips.get(seen).window, FAKE_METADATA.model_copy(update={"name": "other"}))
    refused = client.post(CHAT, json=asking(f"sefar://{other.clip_id}"))
    assert refused.status_code == 400
    assert error_of(refused)["code"] == "clip_of_another_model"
    assert "processed by the model other" in error_of(refused)["message"]


def test_a_full_queue_refuses_before_any_work(gateway: Gateway, bright_clip: bytes) -> None:
    class Full(FakeGenerator):
        @property
        def queue_depth(self) -> int:
            return 3

    engine = FakeEngine()
    client = gateway(engine=engine, generator=Full(), max_generating=3, generation_batch=1)
    for refused in (client.post(CHAT, json=asking(bright_clip)), client.post("/v1/captions", content=bright_clip)):
        assert refused.status_code == 429
        assert error_of(refused)["code"] == "overloaded"
        assert refused.headers["retry-after"] == "3"
    assert engine.calls == 0
    assert 'sefar_rejected_total{reason="generating"} 2.0' in client.get("/metrics").text


def test_several_clips_in_one_conversation(gateway: Gateway, bright_clip: bytes, dark_clip: bytes) -> None:
    generator = FakeGenerator()
    messages = [
        {"role": "system", "content": "You know gymnastics."},
        {"role": "user", "content": asking(dark_clip, "one")["messages"][0]["content"]},
        {"role": "assistant", "content": "a salto"},
        {"role": "user", "content": asking(bright_clip, "and this?")["messages"][0]["content"]},
    ]
    body = gateway(generator=generator).post(CHAT, json={"messages": messages}).json()
    assert body["choices"][0]["message"]["content"] == "clip 0 clip 2 and this?"
    assert [clip["labels"][0]["label"] for clip in body["sefar"]["clips"]] == [
        "salto forward tucked",
        "giant circle forward",
    ]
    assert [message.role for message in generator.asked[0][0]] == ["system", "user", "assistant", "user"]


def test_a_conversation_without_a_video_is_refused(gateway: Gateway, bright_clip: bytes) -> None:
    generator = FakeGenerator()
    client = gateway(generator=generator)
    for stream in (False, True):
        refused = client.post(CHAT, json=asking(None, "How many turns?", stream=stream))
        assert refused.status_code == 400
        assert (error_of(refused)["code"], error_of(refused)["param"]) == ("missing_video", "messages")
        assert "SEFAR_TEXT_ONLY_CHAT" in error_of(refused)["message"]
    assert not generator.asked
    # One video anywhere in the conversation is enough.
    turns = asking(bright_clip)["messages"] + [{"role": "assistant", "content": "x"}] + asking(None)["messages"]
    assert client.post(CHAT, json={"messages": turns}).status_code == 200


def test_text_only_answers_have_a_notice_that_there_was_no_video(gateway: Gateway) -> None:
    client = gateway(generator=FakeGenerator(), text_only_chat=True)
    body = client.post(CHAT, json=asking(None, "hello")).json()
    assert body["choices"][0]["message"]["content"] == "hello"
    assert body["sefar"]["clips"] == []
    assert body["sefar"]["notice"].startswith("The conversation has no video")
    *_, closing, _ = events(client, asking(None, "hello"))
    assert closing["sefar"]["notice"] == body["sefar"]["notice"]
    chosen = client.post(CHAT, json=asking(None, QUESTION)).json()["sefar"]
    assert chosen["options"]
    assert chosen["notice"] == body["sefar"]["notice"]


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_an_answer_over_the_length_limit_is_cut_with_a_notice(gateway: Gateway, bright_clip: bytes, name: str) -> None:
    generator = FakeGenerator("a giant circle forward and on")
    client = gateway(generator=generator, max_tokens=4)
    body = client.post(CHAT, json=asking(bright_clip, **{name: 5})).json()
    assert body["choices"][0]["finish_reason"] == "length"
    assert body["sefar"]["notice"] == ("max_tokens was lowered from 5 to 4, the maximum for this request.")
    *_, closing, _ = events(client, asking(bright_clip, **{name: 5}))
    assert closing["sefar"]["notice"] == body["sefar"]["notice"]
    assert client.post(CHAT, json=asking(bright_clip, **{name: 4})).json()["sefar"]["notice"] is None
    assert [options.max_tokens for _, options in generator.asked] == [4, 4, 4]


def test_the_context_length_is_a_limit_too(gateway: Gateway, bright_clip: bytes) -> None:
    body = gateway(generator=FakeGenerator()).post(CHAT, json=asking(bright_clip, max_tokens=4096)).json()
    assert "from 4096 to 253" in body["sefar"]["notice"]  # 256, of which the prompt has 3


def test_two_notices_are_both_included(gateway: Gateway, bright_clip: bytes) -> None:
    client = gateway(generator=FakeGenerator("A salto forward tucked."), max_tokens=100)
    body = client.post(CHAT, json=asking(bright_clip, max_tokens=999)).json()
    assert body["sefar"]["agreement"] == "disagree"
    first, second = body["sefar"]["notice"].split(". ")
    assert "the classifier giant circle forward" in first
    assert second.startswith("max_tokens was lowered from 999 to 100")


QUESTION = (
    "What is it? A.salto forward tucked B.giant circle forward C.salto backward tucked D.split jump with 0.5 turn"
)


@pytest.mark.parametrize(
    "body",
    [
        {"text": QUESTION},
        {
            "text": "What is it?",
            "options": [
                "salto forward tucked",
                "giant circle forward",
                "salto backward tucked",
                "split jump with 0.5 turn",
            ],
        },
    ],
)
def test_multiple_choice_by_the_likelihood_of_the_options(
    gateway: Gateway, bright_clip: bytes, body: dict[str, Any]
) -> None:
    client = gateway(generator=FakeGenerator("giant circle forward"))
    answer = client.post(CHAT, json=asking(bright_clip, **body)).json()
    assert answer["choices"][0]["message"]["content"] == "B. giant circle forward"
    options = answer["sefar"]["options"]
    assert [option["letter"] for option in options] == ["A", "B", "C", "D"]
    assert options[3]["text"] == "split jump with 0.5 turn"
    assert sum(option["probability"] for option in options) == pytest.approx(1)
    assert max(options, key=lambda option: option["logprob"])["letter"] == "B"
    assert answer["sefar"]["agreement"] == "agree"


def test_a_choice_that_contradicts_the_classifier(gateway: Gateway, bright_clip: bytes) -> None:
    client = gateway(generator=FakeGenerator("salto forward tucked"))
    block = client.post(CHAT, json=asking(bright_clip, QUESTION)).json()["sefar"]
    assert block["agreement"] == "disagree"
    assert "the classifier prefers giant circle forward" in block["notice"]
    held = client.post(CHAT, json=asking(bright_clip, QUESTION, abstain_below=1.0)).json()
    assert held["sefar"]["abstained"] is True
    assert held["choices"][0]["message"]["content"].startswith("Not sure.")


def test_answer_modes_letter_and_generate(gateway: Gateway, bright_clip: bytes) -> None:
    client = gateway(generator=FakeGenerator("C"))
    letter = client.post(CHAT, json=asking(bright_clip, QUESTION, answer_mode="letter")).json()
    assert letter["choices"][0]["message"]["content"] == "C. salto backward tucked"
    free = client.post(CHAT, json=asking(bright_clip, QUESTION, answer_mode="generate")).json()
    assert free["choices"][0]["message"]["content"] == "C"
    assert free["sefar"]["options"] is None


@pytest.mark.parametrize("text", ["Which?", None, "Which? A.one B.two C.three D.four"])
def test_options_are_in_the_prompt_once(gateway: Gateway, bright_clip: bytes, text: str | None) -> None:
    generator = FakeGenerator("free")
    body = asking(bright_clip, text or "", options=["one", "two", "three", "four"], answer_mode="generate")
    if text is None:
        del body["messages"][0]["content"][1]
    assert gateway(generator=generator).post(CHAT, json=body).status_code == 200
    [(messages, _)] = generator.asked
    _, asked = messages[0].content
    assert asked == f"{'' if text is None else 'Which? '}A.one B.two C.three D.four"


def test_a_choice_in_a_stream(gateway: Gateway, bright_clip: bytes) -> None:
    _, delta, closing, _ = events(
        gateway(generator=FakeGenerator("giant circle forward")), asking(bright_clip, QUESTION)
    )
    assert delta["choices"][0]["delta"]["content"] == "B. giant circle forward"
    assert closing["sefar"]["options"][1]["text"] == "giant circle forward"


@pytest.mark.parametrize(
    ("body", "status", "code", "words"),
    [
        (asking(None, "look: <sefar>"), 400, "invalid_prompt", "<sefar>"),
        (asking(None, "word " * 100_000), 400, "context_length_exceeded", "256"),
        (asking(None, "w" * 8193), 400, "context_length_exceeded", "8193 characters"),
        (asking(None, options=["a", "w" * 8193]), 400, "context_length_exceeded", "256 tokens"),
        ({"messages": [{"role": "user", "content": []}]}, 400, "invalid_parameter", "is empty"),
        ({"messages": [{"role": "user", "content": None}]}, 400, "invalid_parameter", "is empty"),
        (asking(None, model="gpt-4o"), 404, "model_not_found", "'fake-captioner'"),
        (asking(None, max_tokens=0), 400, "invalid_parameter", "max_tokens"),
        (asking(None, temperature=3), 400, "invalid_parameter", "temperature"),
        (asking(None, tools=[{"type": "function"}]), 400, "unsupported_parameter", "tools: not supported"),
        (
            asking(None, n=2),
            400,
            "unsupported_parameter",
            "n: not supported by this server; leave it out, or set it to 1",
        ),
        (asking(None, response_format={"type": "json_object"}), 400, "unsupported_parameter", "response_format"),
        (asking(None, logprobs=True), 400, "unsupported_parameter", "logprobs"),
        (asking(None, top_k=3), 400, "invalid_parameter", "top_k: unknown parameter"),
        (asking(None, seed=2**63), 400, "invalid_parameter", "seed"),
        (asking(None, stop=["1", "2", "3", "4", "5"]), 400, "invalid_parameter", "stop"),
        (asking(None, options=["one", ""]), 400, "invalid_parameter", "options"),
        (asking(None, answer_mode="loglik"), 400, "invalid_parameter", "needs options"),
        (asking(None, options=["one"]), 400, "invalid_parameter", "options"),
        ({"messages": []}, 400, "invalid_parameter", "messages"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, 400, "invalid_parameter", "must have role user"),
        (asking("data:video/mp4;base64,AAAA"), 415, "not_a_video", "video 0"),
        (asking("data:video/mp4,AAAA"), 400, "invalid_data_url", "base64"),
        (asking("https://example.com/a.mp4"), 403, "url_not_allowed", "SEFAR_URL_HOSTS"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            400,
            "invalid_parameter",
            "image_url",
        ),
    ],
)
def test_invalid_requests(gateway: Gateway, body: dict[str, Any], status: int, code: str, words: str) -> None:
    generator = FakeGenerator()
    client = gateway(generator=generator, text_only_chat=True)
    response = client.post(CHAT, json=body)
    assert response.status_code == status, response.text
    assert error_of(response)["code"] == code
    assert words in error_of(response)["message"]
    assert generator.running == 0
    assert client.post(CHAT, json=asking(None, "hello")).status_code == 200


def test_openai_parameters_at_their_defaults_change_nothing(gateway: Gateway) -> None:
    generator = FakeGenerator()
    client = gateway(generator=generator, text_only_chat=True)
    defaults: dict[str, Any] = {
        "model": "default",
        "n": 1,
        "frequency_penalty": 0,
        "presence_penalty": 0.0,
        "logit_bias": {},
        "logprobs": False,
        "response_format": {"type": "text"},
        "tools": [],
        "tool_choice": "none",
        "user": "me",
        "store": False,
        "reasoning_effort": "low",
        "temperature": None,
        "top_p": None,
        "max_tokens": None,
        "seed": None,
        "stop": None,
        "stream": None,
    }
    body = client.post(CHAT, json=asking(None, "hello", **defaults)).json()
    assert body["choices"][0]["message"]["content"] == "hello"
    client.post(CHAT, json=asking(None, "hello", stop=["", "x"]))
    (_, plain), (_, stopped) = generator.asked
    assert plain == GenerationOptions()
    assert stopped.stop == ("x",)


def test_a_body_that_is_not_json(gateway: Gateway) -> None:
    client = gateway(generator=FakeGenerator())
    assert error_of(client.post(CHAT, content=b"{"))["code"] == "invalid_json"
    assert error_of(client.post(CHAT, content=b"[]"))["code"] == "invalid_json"


@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (GeneratorOverloadedError("full", retry_after=7), 429, "overloaded"),
        (GeneratorUnavailableError("away", retry_after=7), 503, "generator_unavailable"),
        (GenerationFailedError("broke"), 500, "generation_failed"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_errors_of_the_generator(
    gateway: Gateway, bright_clip: bytes, failure: Any, status: int, code: str, stream: bool
) -> None:
    client = gateway(generator=FakeGenerator(failure=failure))
    response = client.post(CHAT, json=asking(bright_clip, stream=stream))
    assert response.status_code == status
    assert error_of(response)["code"] == code
    assert response.headers.get("retry-after") == (None if status == 500 else "7")


def test_a_request_that_takes_too_long(gateway: Gateway) -> None:
    generator = FakeGenerator("one two three", delay=0.3)
    client = gateway(generator=generator, request_timeout=0.5, text_only_chat=True)
    late = client.post(CHAT, json=asking(None))
    assert late.status_code == 504
    *_, last = events(client, asking(None))
    assert last["error"]["code"] == "timeout"
    assert generator.running == 0


def test_without_a_language_model_labels_still_work(gateway: Gateway, bright_clip: bytes) -> None:
    client = gateway()
    response = client.post(CHAT, json=asking(bright_clip))
    assert response.status_code == 501
    assert "sefar-serve[mllm]" in error_of(response)["message"]
    assert client.post("/v1/classify", content=bright_clip).status_code == 200
    assert client.get("/readyz").json()["captioner"] == "none"


class Unfit(FakeGenerator):
    """An adapter for another encoder."""

    def fits(self, metadata: ModelMetadata) -> None:
        raise AdapterMismatchError(f"not made for {metadata.name}")


def test_an_adapter_for_another_encoder_is_not_used(
    gateway: Gateway, bright_clip: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    client = gateway(generator=Unfit())
    response = client.post(CHAT, json=asking(bright_clip))
    assert response.status_code == 503
    assert error_of(response)["code"] == "adapter_mismatch"
    assert client.post("/v1/classify", content=bright_clip).status_code == 200
    assert "not made for fake" in client.get("/readyz").json()["captioner"]
    assert client.get("/v1/models").json()["data"][-1]["encoder"] is None
    [found] = [record.getMessage() for record in caplog.records if record.name == "sefar_serve.api.captioner"]
    assert (
        found
        == "captions are unavailable: fake-captioner cannot read the features of any model here: not made for fake"
    )


def test_the_captioner_is_listed_and_counted(gateway: Gateway, bright_clip: bytes) -> None:
    client = gateway(generator=FakeGenerator("giant circle forward"))
    listed = client.get("/v1/models").json()["data"]
    assert [model["id"] for model in listed] == [FAKE_METADATA.name, "fake-captioner"]
    assert listed[1]["encoder"] == FAKE_METADATA.name
    assert client.get("/readyz").json()["captioner"] == "fake-captioner"
    client.post(CHAT, json=asking(bright_clip))
    found = client.get("/metrics").text
    assert 'sefar_language_tokens_total{kind="completion"} 3.0' in found
    assert 'sefar_replies_total{agreement="agree"} 1.0' in found
    assert "sefar_first_token_seconds_count 1.0" in found
    assert "sefar_generating 0.0" in found


def test_the_generator_starts_and_stops_with_the_application(gateway: Gateway) -> None:
    generator = FakeGenerator()
    client = gateway(generator=generator)
    assert generator.started
    client.__exit__(None, None, None)
    assert not generator.started
