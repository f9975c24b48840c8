"""Answers and scores through vLLM equal those in this process, and the request says what was asked."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_language_model import (
    CONTEXT,
)
from vllm_generators import (
    COMPLETIONS,
    CONVERSATIONS,
    answer,
    clip,
    in_process,
    started,
)
from vllm_stand_in import StandIn

from sefar_serve.language import (
    ClipFeatures,
    FeatureMismatchError,
    GenerationOptions,
    Message,
    PromptError,
    PromptTooLongError,
)
from sefar_serve.mllm.adapter import Adapter
from sefar_serve.mllm.prompt_embeddings import serialized
from sefar_serve.mllm.vllm import VllmGenerator

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("refused", [set(), {COMPLETIONS}], ids=["completions", "chat"])
async def test_answers_equal_those_in_process_token_for_token(
    server: StandIn, adapter: Path, here: Adapter, refused: set[str]
) -> None:
    server.refused_paths = refused
    texts = set()
    async with started(VllmGenerator(adapter, server.url)) as there, in_process(here) as local:
        for messages in CONVERSATIONS.values():
            options = GenerationOptions(max_tokens=16)
            expected = await answer(local, messages, options)
            assert await answer(there, messages, options) == expected
            texts.add(expected[0])
    assert len(texts) == len(CONVERSATIONS)  # different clips and words give different answers
    assert {"prompt_embeds" in body for body in server.seen if body.get("stream")} == {not refused}


@pytest.mark.parametrize("refused", [set(), {COMPLETIONS}], ids=["completions", "chat"])
async def test_scores_equal_the_log_likelihoods_in_process(
    server: StandIn, adapter: Path, here: Adapter, refused: set[str]
) -> None:
    server.refused_paths = refused
    options = ["salto forward", "salto backward tucked", "giant circle", "x"]
    async with started(VllmGenerator(adapter, server.url + "/v1/")) as there, in_process(here) as local:
        for messages in CONVERSATIONS.values():
            expected, found = await local.score(messages, options), await there.score(messages, options)
            assert found.usage == expected.usage
            for one, other in zip(found.options, expected.options, strict=True):
                assert one.tokens == other.tokens
                assert one.logprob == pytest.approx(other.logprob, abs=1e-4)


async def test_the_common_prefix_of_options_is_scored_once(server: StandIn, adapter: Path) -> None:
    async with started(VllmGenerator(adapter, server.url)) as there:
        before = len(server.seen)
        scores = await there.score(CONVERSATIONS["a clip"], ["salto forward", "salto backward"])
        shared = 1  # "salto"
        assert len(server.seen) - before == sum(option.tokens for option in scores.options) - shared
        assert server.most_running <= 8


async def test_options_of_a_request_reach_the_server(server: StandIn, adapter: Path) -> None:
    messages = CONVERSATIONS["a clip"]
    async with started(VllmGenerator(adapter, server.url, max_tokens=7)) as there:
        full, reason, usage = await answer(there, messages, GenerationOptions())
        assert (reason, usage.completion_tokens) == ("length", 7)
        stop = full[2:4]
        cut = await answer(there, messages, GenerationOptions(stop=(stop, "")))
        assert cut[:2] == (full[: full.index(stop)], "stop")
        drawn = GenerationOptions(max_tokens=12, temperature=2.0, top_p=0.9, seed=3)
        once, twice = await answer(there, messages, drawn), await answer(there, messages, drawn)
        assert once == twice
        assert once[0] != (await answer(there, messages, GenerationOptions(max_tokens=12)))[0]
    sent = server.seen[-2]
    assert (sent["temperature"], sent["top_p"], sent["seed"], sent["top_k"]) == (2.0, 0.9, 3, 0)


async def test_an_end_of_turn_token_ends_an_answer(server: StandIn, adapter: Path) -> None:
    async with started(VllmGenerator(adapter, server.url)) as there:
        spoken = await answer(there, CONVERSATIONS["a clip"], GenerationOptions(max_tokens=4))
        first = server.tokenizer(spoken[0])["input_ids"][0]
        there._embedder.ends.add(first)
        text, reason, _ = await answer(there, CONVERSATIONS["a clip"], GenerationOptions(max_tokens=4))
        assert (len(text) < len(spoken[0]), reason) == (True, "stop")


async def test_only_the_rows_of_the_prompt_are_sent(server: StandIn, adapter: Path) -> None:
    async with started(VllmGenerator(adapter, server.url)) as there:
        await answer(there, CONVERSATIONS["a clip"], GenerationOptions(max_tokens=2))
    sent = server._load(server.seen[-1]["prompt_embeds"])
    assert sent.shape[1] == server.model.config.hidden_size
    table = torch.randn(1000, sent.shape[1])
    assert torch.equal(server._load(serialized(table[3:5])), table[3:5])
    careless = io.BytesIO()
    torch.save(table[3:5], careless)
    with pytest.raises(ValueError, match="its whole storage"):
        server._load(base64.b64encode(careless.getvalue()).decode())


async def test_invalid_prompts(server: StandIn, adapter: Path) -> None:
    async with started(VllmGenerator(adapter, server.url)) as there:
        seen = len(server.seen)
        for wrong, error in (
            ([Message("user", ("say <sefar>",))], PromptError),
            ([Message("user", ("word " * 1000,))], PromptTooLongError),
            ([Message("user", (ClipFeatures(np.zeros(3, np.float32), clip(0).tokens), "?"))], FeatureMismatchError),
        ):
            with pytest.raises(error):
                await answer(there, wrong, GenerationOptions())
            with pytest.raises(error):
                await there.score(wrong, ["salto"])
        assert len(server.seen) == seen
        assert there.queue_depth == 0


async def test_an_answer_may_be_as_long_as_the_context_leaves_room(server: StandIn, adapter: Path) -> None:
    async with started(VllmGenerator(adapter, server.url)) as there:
        _, _, usage = await answer(there, CONVERSATIONS["a clip"], GenerationOptions(max_tokens=CONTEXT))
        assert server.seen[-1]["max_tokens"] == CONTEXT - usage.prompt_tokens
