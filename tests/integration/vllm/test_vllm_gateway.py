"""A gateway with its language model on a vLLM server answers like one with it in process."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from fastapi.testclient import TestClient
from vllm_stand_in import StandIn, free_port

from sefar_serve.api import create_app
from sefar_serve.assemble import make_engine, make_generator
from sefar_serve.mllm.adapter import load_adapter
from sefar_serve.settings import Settings, shipped_captioner

NAME = "sefar-synthgym-captioner"


@pytest.fixture(scope="module")
def gateways() -> Iterator[list[TestClient]]:
    """The shipped captioner in process, and with its language model on a server."""
    adapter = load_adapter(shipped_captioner())
    server = StandIn(
        adapter.model.language_model, adapter.processor.tokenizer, free_port(), name=NAME, root=NAME, max_model_len=512
    )
    with ExitStack() as running:
        running.enter_context(server.serving())
        made = []
        # The clips of these tests are like none that the model has learned.
        for settings in (Settings(unfamiliar_below=0), Settings(unfamiliar_below=0, vllm_url=server.url)):
            app = create_app(settings, make_engine(settings), make_generator(settings))
            made.append(running.enter_context(TestClient(app)))
        yield made
        assert server.seen, "the server got no requests"


def asked(clip: bytes, text: str, **more: Any) -> dict[str, Any]:
    url = "data:video/mp4;base64," + base64.b64encode(clip).decode()
    parts = [{"type": "video_url", "video_url": {"url": url}}, {"type": "text", "text": text}]
    return {"messages": [{"role": "user", "content": parts}], **more}


@pytest.mark.parametrize("text", ["Describe the action in this clip.", "How many turns are there?"])
def test_texts_are_equal(gateways: list[TestClient], dark_clip: bytes, bright_clip: bytes, text: str) -> None:
    for clip in (dark_clip, bright_clip):
        here, there = (gateway.post("/v1/chat/completions", json=asked(clip, text)).json() for gateway in gateways)
        assert here["choices"] == there["choices"]
        assert here["usage"] == there["usage"]
        assert here["sefar"] == there["sefar"]


def test_choices_are_equal(gateways: list[TestClient], bright_clip: bytes) -> None:
    question = "Which is it? A.split jump B.stalder forward C.wolf jump D.giant circle backward"
    here, there = (
        gateway.post("/v1/chat/completions", json=asked(bright_clip, question)).json() for gateway in gateways
    )
    assert here["choices"] == there["choices"]
    for ours, theirs in zip(here["sefar"]["options"], there["sefar"]["options"], strict=True):
        assert ours["logprob"] == pytest.approx(theirs["logprob"], abs=1e-3)


def test_models_reports_where_the_language_model_runs(gateways: list[TestClient]) -> None:
    backends = [gateway.get("/v1/models").json()["data"][-1]["backend"] for gateway in gateways]
    assert backends == ["in-process", "vllm"]
    assert [gateway.get("/readyz").json()["captioner"] for gateway in gateways] == [NAME, NAME]
