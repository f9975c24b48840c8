"""POST /v1/chat/completions: answers, streams, stored clips, limits and the classifier beside them."""

from __future__ import annotations

import pytest
from chat_requests import CHAT, QUESTION, Gateway, asking, error_of, events

from sefar_serve.engine import FAKE_METADATA, FakeEngine
from sefar_serve.language import (
    AdapterMismatchError,
    ClipFeatures,
    FakeGenerator,
    GeneratorUnavailableError,
)
from sefar_serve.metadata import ModelMetadata


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
