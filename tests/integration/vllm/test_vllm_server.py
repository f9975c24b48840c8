"""How the vLLM generator meets a server that is wrong, absent, slow or failing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.responses import JSONResponse
from vllm_generators import (
    CONVERSATIONS,
    answer,
    eventually,
    ready,
    started,
)
from vllm_stand_in import StandIn, refusal

from sefar_serve.language import (
    AdapterMismatchError,
    GenerationFailedError,
    GenerationOptions,
    GeneratorOverloadedError,
    GeneratorUnavailableError,
    PromptTooLongError,
)
from sefar_serve.mllm.vllm import VllmGenerator

pytestmark = pytest.mark.anyio


async def test_a_wrong_model_on_the_server_is_rejected_until_it_is_replaced(server: StandIn, adapter: Path) -> None:
    right = server.name
    server.name = server.root = "someone-else"
    async with started(VllmGenerator(adapter, server.url)) as there:
        with pytest.raises(AdapterMismatchError, match="serves someone-else, but not"):
            await there.check()
        with pytest.raises(AdapterMismatchError):
            await answer(there, CONVERSATIONS["a clip"], GenerationOptions())
        server.name = right
        await ready(there)


async def test_model_is_found_by_the_name_given_or_by_its_root(server: StandIn, adapter: Path) -> None:
    server.name = "alias"
    async with started(VllmGenerator(adapter, server.url)) as there:
        await there.check()  # the root is the folder
    server.root = "/models/elsewhere"
    async with started(VllmGenerator(adapter, server.url, model="alias")) as there:
        assert (await answer(there, CONVERSATIONS["a clip"], GenerationOptions(max_tokens=2)))[2].completion_tokens == 2
        assert there.info.context_length == server.max_model_len


@pytest.mark.parametrize("wrong", ["flag", "ignored"])
async def test_missing_prompt_embeddings_name_the_flag(server: StandIn, adapter: Path, wrong: str) -> None:
    server.prompt_embeds, server.ignores_embeds = wrong != "flag", wrong == "ignored"
    async with started(VllmGenerator(adapter, server.url)) as there:
        with pytest.raises(GeneratorUnavailableError, match="--enable-prompt-embeds"):
            await there.check()


async def test_api_key(server: StandIn, adapter: Path) -> None:
    server.api_key = "secret"
    async with started(VllmGenerator(adapter, server.url)) as there:
        with pytest.raises(GeneratorUnavailableError, match="SEFAR_VLLM_API_KEY"):
            await there.check()
    async with started(VllmGenerator(adapter, server.url, api_key="secret")) as there:
        await there.check()


async def test_a_server_that_starts_later_and_restarts(new_server: Callable[..., StandIn], adapter: Path) -> None:
    server = new_server()
    messages, options = CONVERSATIONS["a clip"], GenerationOptions(max_tokens=4)
    async with started(VllmGenerator(adapter, server.url)) as there:
        with pytest.raises(GeneratorUnavailableError, match="cannot be reached"):
            await there.check()
        with pytest.raises(GeneratorUnavailableError):
            await answer(there, messages, options)
        with server.serving():
            await ready(there)
            first = await answer(there, messages, options)
        with pytest.raises(GeneratorUnavailableError, match="cannot be reached"):
            await answer(there, messages, options)
        with server.serving():
            await ready(there)
            assert await answer(there, messages, options) == first
    assert there.queue_depth == 0


async def test_a_disconnect_aborts_the_request_on_the_server(server: StandIn, adapter: Path) -> None:
    async with started(VllmGenerator(adapter, server.url)) as there:
        server.pause = 0.05
        pieces = there.generate(CONVERSATIONS["a clip"], GenerationOptions(max_tokens=100))
        assert (await anext(pieces)).text
        assert there.queue_depth == 1
        await pieces.aclose()
        assert there.queue_depth == 0
        await eventually(lambda: server.aborted == 1 and server.running == 0)
        server.pause = 0.0
        await answer(there, CONVERSATIONS["a clip"], GenerationOptions(max_tokens=2))


async def test_scoring_can_be_cancelled(server: StandIn, adapter: Path) -> None:
    async with started(VllmGenerator(adapter, server.url)) as there:
        server.pause = 0.2
        task = asyncio.create_task(there.score(CONVERSATIONS["a clip"], ["salto forward", "giant circle"]))
        await eventually(lambda: server.running > 0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert there.queue_depth == 0


async def test_too_many_requests_are_rejected(server: StandIn, adapter: Path) -> None:
    async with started(VllmGenerator(adapter, server.url, max_inflight=1)) as there:
        server.pause = 0.02
        pieces = there.generate(CONVERSATIONS["a clip"], GenerationOptions(max_tokens=50))
        await anext(pieces)
        with pytest.raises(GeneratorOverloadedError):
            await answer(there, CONVERSATIONS["a clip"], GenerationOptions())
        with pytest.raises(GeneratorOverloadedError):
            await there.score(CONVERSATIONS["a clip"], ["salto"])
        await pieces.aclose()
        await answer(there, CONVERSATIONS["a clip"], GenerationOptions(max_tokens=2))


@pytest.mark.parametrize(
    ("status", "headers", "error", "message"),
    [
        (429, {"Retry-After": "7"}, GeneratorOverloadedError, "busy"),
        (503, {"Retry-After": "9"}, GeneratorUnavailableError, "not ready"),
        (500, {}, GenerationFailedError, "refused the request"),
    ],
)
async def test_errors_of_the_server(
    server: StandIn, adapter: Path, status: int, headers: dict[str, str], error: type[Exception], message: str
) -> None:
    async with started(VllmGenerator(adapter, server.url)) as there:
        server.fail = JSONResponse({"error": {"message": "no", "code": status}}, status, headers)
        with pytest.raises(error, match=message) as raised:
            await answer(there, CONVERSATIONS["a clip"], GenerationOptions())
        if headers:
            assert raised.value.retry_after == int(headers["Retry-After"])  # type: ignore[attr-defined]
        with pytest.raises(error, match=message):
            await there.score(CONVERSATIONS["a clip"], ["salto", "giant"])
        server.fail = None
        await answer(there, CONVERSATIONS["a clip"], GenerationOptions(max_tokens=2))


async def test_a_server_that_fails_during_an_answer(server: StandIn, adapter: Path) -> None:
    async with started(VllmGenerator(adapter, server.url)) as there:
        server.break_after = 3
        with pytest.raises(GeneratorUnavailableError):
            await answer(there, CONVERSATIONS["a clip"], GenerationOptions(max_tokens=20))
        server.break_after, server.error_after = None, 3
        await ready(there)
        with pytest.raises(GenerationFailedError, match="in the middle of its answer: out of memory"):
            await answer(there, CONVERSATIONS["a clip"], GenerationOptions(max_tokens=20))
        server.error_after = None
        await answer(there, CONVERSATIONS["a clip"], GenerationOptions(max_tokens=2))
        assert there.queue_depth == 0


async def test_a_silent_server_times_out(server: StandIn, adapter: Path) -> None:
    async with started(VllmGenerator(adapter, server.url, timeout=0.3)) as there:
        server.pause = 1.0
        with pytest.raises(GeneratorUnavailableError, match=r"did not answer within 0\.3 s"):
            await answer(there, CONVERSATIONS["a clip"], GenerationOptions(max_tokens=2))


async def test_close_ends_running_requests(server: StandIn, adapter: Path) -> None:
    there = VllmGenerator(adapter, server.url)
    await there.start()
    server.pause = 0.05
    pieces = there.generate(CONVERSATIONS["a clip"], GenerationOptions(max_tokens=100))
    await anext(pieces)
    reading = asyncio.create_task(anext(pieces))
    await there.close()
    await there.close()
    with pytest.raises(GeneratorUnavailableError):
        await reading
        async for _ in pieces:
            pass
    await eventually(lambda: server.running == 0)
    with pytest.raises(GeneratorUnavailableError, match="starting or shutting down"):
        await there.check()


async def test_a_server_with_other_log_probabilities_is_rejected(server: StandIn, adapter: Path) -> None:
    async with started(VllmGenerator(adapter, server.url)) as there:
        server.logprobs_mode = "processed_logprobs"
        with pytest.raises(GenerationFailedError, match="--logprobs-mode raw_logprobs"):
            await there.score(CONVERSATIONS["a clip"], ["salto", "giant"])
        server.drops_allowed = True
        with pytest.raises(GenerationFailedError, match="ignores allowed_token_ids"):
            await there.score(CONVERSATIONS["a clip"], ["salto", "giant"])


async def test_a_server_whose_context_is_shorter_than_it_reports(server: StandIn, adapter: Path) -> None:
    server.max_model_len = 64
    async with started(VllmGenerator(adapter, server.url)) as there:
        server.max_model_len = 8
        with pytest.raises(PromptTooLongError, match="maximum context length"):
            await answer(there, CONVERSATIONS["a clip"], GenerationOptions(max_tokens=8))


async def test_not_a_vllm_server(server: StandIn, adapter: Path) -> None:
    async with started(VllmGenerator(adapter, server.url + "/docs")) as there:
        with pytest.raises(GenerationFailedError, match="404"):
            await there.check()
    server.fail = refusal("never")
    async with started(VllmGenerator(adapter, server.url)) as there:
        with pytest.raises(GeneratorUnavailableError, match="never"):
            await there.check()
