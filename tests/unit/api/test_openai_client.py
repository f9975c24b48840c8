"""The `openai` package as a client of a real server in a thread; the model and the language model are fakes."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import openai
import pytest
from gateway_thread import GatewayThread

from sefar_serve.api import create_app
from sefar_serve.engine import FakeEngine
from sefar_serve.language import FakeGenerator, GeneratorOverloadedError, GeneratorUnavailableError
from sefar_serve.settings import Settings

Serve = Callable[..., openai.OpenAI]


@pytest.fixture
def serve() -> Iterator[Serve]:
    with ExitStack() as running:

        def make(generator: FakeGenerator, key: str = "unused", **settings: Any) -> openai.OpenAI:
            url = running.enter_context(GatewayThread(create_app(Settings(**settings), FakeEngine(), generator)))
            return running.enter_context(openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0))

        yield make


def until(condition: Callable[[], bool]) -> bool:
    """Whether a condition becomes true soon."""
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def messages(video: bytes, text: str = "What is it?") -> list[Any]:
    url = "data:video/mp4;base64," + base64.b64encode(video).decode()
    parts = [{"type": "video_url", "video_url": {"url": url}}, {"type": "text", "text": text}]
    return [{"role": "user", "content": parts}]


def test_an_answer(serve: Serve, bright_clip: bytes) -> None:
    client = serve(FakeGenerator())
    answer = client.chat.completions.create(model="fake-captioner", messages=messages(bright_clip), max_tokens=50)
    assert answer.choices[0].message.content == "clip 2 What is it?"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None and answer.usage.completion_tokens == 5
    assert answer.model_extra is not None
    assert answer.model_extra["sefar"]["clips"][0]["labels"][0]["label"] == "giant circle forward"


def test_a_stream(serve: Serve, bright_clip: bytes) -> None:
    client = serve(FakeGenerator())
    chunks = list(
        client.chat.completions.create(
            model="fake-captioner",
            messages=messages(bright_clip),
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "clip 2 What is it?"
    assert chunks[-1].usage is not None and chunks[-1].usage.completion_tokens == 5
    closing = chunks[-2]
    assert closing.choices[0].finish_reason == "stop"
    assert closing.model_extra is not None and closing.model_extra["sefar"]["agreement"] is None


def test_extensions_in_extra_body(serve: Serve, bright_clip: bytes) -> None:
    client = serve(FakeGenerator("giant circle forward"))
    answer = client.chat.completions.create(
        model="fake-captioner",
        messages=messages(bright_clip),
        extra_body={"options": ["salto forward tucked", "giant circle forward"]},
    )
    assert answer.choices[0].message.content == "B. giant circle forward"
    assert answer.model_extra is not None
    assert answer.model_extra["sefar"]["options"][1]["probability"] > 0.5


@pytest.mark.parametrize(
    ("change", "error", "code"),
    [
        ({"model": "gpt-4o"}, openai.NotFoundError, "model_not_found"),
        ({"text": "a <sefar> too many"}, openai.BadRequestError, "invalid_prompt"),
        ({"text": "word " * 100_000}, openai.BadRequestError, "context_length_exceeded"),
        ({"temperature": 9}, openai.BadRequestError, "invalid_parameter"),
        ({"video": b"no video"}, openai.APIStatusError, "not_a_video"),
    ],
)
def test_errors_are_raised_as_openai_exceptions(
    serve: Serve, bright_clip: bytes, change: dict[str, Any], error: type[openai.APIStatusError], code: str
) -> None:
    client = serve(FakeGenerator())
    asked = messages(change.pop("video", bright_clip), change.pop("text", "What is it?"))
    for stream in (False, True):
        with pytest.raises(error) as raised:
            client.chat.completions.create(**{"model": "fake-captioner", "messages": asked, "stream": stream, **change})
        assert raised.value.code == code
    assert client.chat.completions.create(model="fake-captioner", messages=messages(bright_clip)).choices


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (GeneratorOverloadedError("full"), openai.RateLimitError),
        (GeneratorUnavailableError("away"), openai.InternalServerError),
    ],
)
def test_server_errors_are_raised_as_openai_exceptions(
    serve: Serve, bright_clip: bytes, failure: Any, error: type[openai.APIStatusError]
) -> None:
    client = serve(FakeGenerator(failure=failure))
    with pytest.raises(error):
        client.chat.completions.create(model="fake-captioner", messages=messages(bright_clip))


def test_a_wrong_key(serve: Serve, bright_clip: bytes) -> None:
    client = serve(FakeGenerator(), key="wrong", api_keys="right")
    with pytest.raises(openai.AuthenticationError):
        client.chat.completions.create(model="fake-captioner", messages=messages(bright_clip))


def test_an_error_in_mid_stream_is_raised_after_the_text_before_it(serve: Serve, bright_clip: bytes) -> None:
    client = serve(FakeGenerator(failure=GeneratorUnavailableError("it went away"), fail_after=2))
    text = ""
    with pytest.raises(openai.APIError, match="it went away"):
        for chunk in client.chat.completions.create(
            model="fake-captioner", messages=messages(bright_clip), stream=True
        ):
            text += chunk.choices[0].delta.content or ""
    assert text == "clip 2"


@pytest.mark.parametrize("stream", [True, False])
def test_disconnecting_cancels_the_work(serve: Serve, bright_clip: bytes, stream: bool) -> None:
    generator = FakeGenerator("word " * 400, delay=0.05)
    client = serve(generator)
    if stream:
        chunks = client.chat.completions.create(model="fake-captioner", messages=messages(bright_clip), stream=True)
        next(iter(chunks))
        assert generator.running == 1
        chunks.close()
    else:
        with pytest.raises(openai.APITimeoutError):
            client.chat.completions.create(model="fake-captioner", messages=messages(bright_clip), timeout=1.0)
    assert until(lambda: generator.running == 0)
    assert generator.completed == 0
    generator.answer = "fine"
    again = client.chat.completions.create(model="fake-captioner", messages=messages(bright_clip))
    assert again.choices[0].message.content == "fine"


def test_the_models(serve: Serve) -> None:
    assert [model.id for model in serve(FakeGenerator()).models.list()] == ["fake", "fake-captioner"]


def test_one_model(serve: Serve) -> None:
    client = serve(FakeGenerator())
    for name in ("fake", "fake:0", "default"):
        assert client.models.retrieve(name).id == "fake"
    assert client.models.retrieve("fake-captioner").id == "fake-captioner"
    with pytest.raises(openai.NotFoundError) as raised:
        client.models.retrieve("lab/none")
    assert raised.value.code == "model_not_found"
    assert "lab/none" in raised.value.message
