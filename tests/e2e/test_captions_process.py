"""Captions and answers of the shipped captioner, through a real gateway, the `openai` package and the command line."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from e2e_gateway import GatewayProcess

from sefar_client import Client
from sefar_serve.settings import shipped_captioner
from sefar_training.synthgym import CLASSES, clip_seed, encode_clip, render_clip

ACTION = CLASSES[3]
"""Salto backward tucked with 1 turn: a class that the shipped model recognises well."""


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip that no model was trained on."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    encode_clip(render_clip(ACTION, clip_seed(7, "demo", ACTION, 0), "standard"), path)
    return path


def messages(clip: Path, text: str) -> list[Any]:
    url = "data:video/mp4;base64," + base64.b64encode(clip.read_bytes()).decode()
    return [
        {
            "role": "user",
            "content": [{"type": "video_url", "video_url": {"url": url}}, {"type": "text", "text": text}],
        }
    ]


@pytest.fixture
def chat(running_gateway: GatewayProcess) -> Any:
    with openai.OpenAI(base_url=running_gateway.url + "/v1", api_key="unused", max_retries=0) as client:
        yield client.chat.completions


MODEL = "sefar-synthgym-captioner"
SAYS = ACTION.name.partition(") ")[2]


def test_the_shipped_captioner_is_small_and_has_a_card() -> None:
    folder = shipped_captioner()
    assert sum(file.stat().st_size for file in folder.iterdir()) < 10_000_000
    assert "## Results" in (folder / "README.md").read_text()


def test_a_caption_is_the_same_whole_and_streamed(chat: Any, clip: Path) -> None:
    asked = {"model": MODEL, "messages": messages(clip, "Describe the action in this clip.")}
    whole = chat.create(**asked)
    assert SAYS in whole.choices[0].message.content
    assert whole.choices[0].finish_reason == "stop"
    assert whole.model_extra["sefar"]["agreement"] == "agree"
    assert whole.model_extra["sefar"]["named_label"] == ACTION.name
    assert whole.usage.completion_tokens > 3
    chunks = list(chat.create(**asked, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole.choices[0].message.content
    assert len(chunks) > 5


def test_questions(chat: Any, clip: Path) -> None:
    turns = chat.create(model=MODEL, messages=messages(clip, "How many turns are there?"))
    assert turns.choices[0].message.content == "1 turn"
    question = f"What gymnastics move is this athlete performing? A.split jump B.wolf jump C.{SAYS} D.stalder forward"
    chosen = chat.create(model=MODEL, messages=messages(clip, question))
    assert chosen.choices[0].message.content == f"C. {SAYS}"
    options = chosen.model_extra["sefar"]["options"]
    assert options[2]["probability"] > 0.9
    assert all(option["logprob"] <= 0 for option in options)


def test_the_default_max_tokens_of_many_clients(chat: Any, clip: Path) -> None:
    answer = chat.create(model=MODEL, messages=messages(clip, "Describe the action in this clip."), max_tokens=4096)
    assert SAYS in answer.choices[0].message.content
    assert "max_tokens was lowered from 4096" in answer.model_extra["sefar"]["notice"]


def test_a_seed_repeats_a_sampled_text(chat: Any, clip: Path) -> None:
    asked = {"model": MODEL, "messages": messages(clip, "Describe this video."), "temperature": 1.5}
    texts = [chat.create(**asked, seed=seed).choices[0].message.content for seed in (1, 1, 2, 3, 4, 5)]
    assert texts[0] == texts[1]
    assert len(set(texts)) > 1


@pytest.mark.parametrize(
    ("model", "text", "error", "code"),
    [
        (MODEL, "one <sefar> too many", openai.BadRequestError, "invalid_prompt"),
        (MODEL, "word " * 100_000, openai.BadRequestError, "context_length_exceeded"),
        ("other", "What?", openai.NotFoundError, "model_not_found"),
    ],
)
def test_rejected_requests_do_not_affect_the_next_one(
    chat: Any, clip: Path, model: str, text: str, error: type[openai.APIStatusError], code: str
) -> None:
    with pytest.raises(error) as raised:
        chat.create(model=model, messages=messages(clip, text))
    assert raised.value.code == code
    assert SAYS in chat.create(model=MODEL, messages=messages(clip, "Describe this video.")).choices[0].message.content


def generating(gateway: GatewayProcess) -> float:
    lines = httpx.get(gateway.url + "/metrics").text.splitlines()
    [line] = [line for line in lines if line.startswith("sefar_generating ")]
    return float(line.partition(" ")[2])


def test_a_disconnect_during_a_stream_frees_the_slot(running_gateway: GatewayProcess, chat: Any, clip: Path) -> None:
    # At this temperature the model hardly stops.
    asked = {
        "messages": messages(clip, "Describe this video."),
        "temperature": 2.0,
        "max_tokens": 400,
        "stream": True,
        "seed": 1,
    }

    async def disconnect_some() -> None:
        async with httpx.AsyncClient(base_url=running_gateway.url, timeout=60) as client:

            async def one(seed: int) -> None:
                body = {**asked, "seed": seed}
                async with client.stream("POST", "/v1/chat/completions", json=body) as response:
                    lines = response.aiter_lines()
                    for _ in range(4):
                        await anext(lines)

            await asyncio.gather(*(one(seed) for seed in range(12)))

    asyncio.run(disconnect_some())
    deadline = time.monotonic() + 20
    while generating(running_gateway) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert generating(running_gateway) == 0
    assert SAYS in chat.create(model=MODEL, messages=messages(clip, "Describe this video.")).choices[0].message.content


def test_concurrent_clips_get_the_same_caption_as_one_alone(running_gateway: GatewayProcess, clip: Path) -> None:
    with Client(running_gateway.url) as client:
        alone = client.caption(clip)
    parts = [("file", ("clip.mp4", clip.read_bytes()))] * 20
    several = httpx.post(f"{running_gateway.url}/v1/captions", files=parts, timeout=60).json()["data"]
    assert {item.get("caption") for item in several} == {alone.caption}
    assert {item.get("clip_id") for item in several} == {alone.clip_id}


def sefar(*arguments: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sefar_serve", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def test_sefar_caption_with_and_without_a_gateway(running_gateway: GatewayProcess, clip: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    here, there = (
        [json.loads(line) for line in sefar("caption", clip, broken, "--json", *flags, code=1).stdout.splitlines()]
        for flags in ([], ["--url", running_gateway.url])
    )
    assert here[0]["caption"] == there[0]["caption"]
    assert SAYS in here[0]["caption"]
    assert here[0]["labels"][0]["label"] == ACTION.name
    assert here[1]["error"]["code"] == there[1]["error"]["code"] == "not_a_video"


def test_sefar_ask(running_gateway: GatewayProcess, clip: Path) -> None:
    local = sefar("ask", clip, "Which is it?", "--option", "split jump", "--option", SAYS).stdout
    assert local.startswith(f"B. {SAYS}")
    assert "classifier" in local
    remote = sefar("ask", clip, "How many turns are there?", "--url", running_gateway.url).stdout
    assert remote.startswith("1 turn\n")
    refused = sefar("ask", clip, "a <sefar>", "--url", running_gateway.url, code=1)
    assert "<sefar>" in refused.stderr
