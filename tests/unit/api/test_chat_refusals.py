"""Chats that cannot be answered: invalid requests, parameters of OpenAI, failures of the language model."""

from __future__ import annotations

from typing import Any

import pytest
from chat_requests import CHAT, Gateway, asking, error_of, events

from sefar_serve.engine import FakeEngine
from sefar_serve.language import (
    FakeGenerator,
    GenerationFailedError,
    GenerationOptions,
    GeneratorOverloadedError,
    GeneratorUnavailableError,
)


@pytest.mark.parametrize(
    ("body", "status", "code", "words"),
    [
        (asking(None, "look: <sefar>"), 400, "invalid_prompt", "<sefar>"),
        (asking(None, "word " * 100_000), 400, "context_length_exceeded", "256"),
        (asking(None, "w" * 8193), 400, "context_length_exceeded", "8193 characters"),
        (asking(None, options=["a", "w" * 8193]), 400, "context_length_exceeded", "256 tokens"),
        ({"messages": [{"role": "user", "content": []}]}, 400, "invalid_prompt", "is empty"),
        ({"messages": [{"role": "user", "content": None}]}, 400, "invalid_prompt", "is empty; ask something"),
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
        (asking(None, options=["one", ""]), 400, "invalid_parameter", "options.1: must not be empty"),
        (asking(None, options=["one", " "]), 400, "invalid_parameter", "options.1: must not be empty"),
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


@pytest.mark.parametrize(
    "parts", [[], [{"type": "text", "text": ""}], [{"type": "text", "text": " \n"}, {"type": "text", "text": "\t"}]]
)
def test_an_empty_question_is_refused_before_its_video_is_decoded(
    gateway: Gateway, bright_clip: bytes, parts: list[Any]
) -> None:
    generator, engine = FakeGenerator(), FakeEngine()
    client = gateway(engine, generator)
    body = asking(bright_clip)
    [turn] = body["messages"]
    turn["content"] = [turn["content"][0], *parts]
    for messages in ([turn], [{"role": "system", "content": "What is it?"}, turn]):
        response = client.post(CHAT, json={**body, "messages": messages})
        assert response.status_code == 400
        error = error_of(response)
        assert (error["code"], error["param"]) == ("invalid_prompt", "messages")
        assert error["message"] == "the last message is empty; ask something"
    assert (engine.calls, generator.asked) == (0, [])
    options = {"options": ["giant circle forward", "something else"]}
    assert client.post(CHAT, json={**body, **options}).status_code == 200


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
