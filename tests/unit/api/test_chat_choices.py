"""Multiple choice in a chat: likelihoods of the options, letters, free text."""

from __future__ import annotations

from typing import Any

import pytest
from chat_requests import CHAT, QUESTION, Gateway, asking, events

from sefar_serve.language import (
    FakeGenerator,
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
