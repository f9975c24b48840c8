"""The vLLM generator against a stand-in server with the same model, and against the generator in process."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fastapi.responses import JSONResponse
from peft import LoraConfig, get_peft_model
from tiny_language_model import (
    CONTEXT,
    ELEMENTS,
    EMBEDDING_DIM,
    TOKEN_DIM,
    tiny_adapter,
    tiny_processor,
    tiny_tokenizer,
)
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Gemma3ForCausalLM,
    Gemma3nTextConfig,
    Gemma3TextConfig,
    HrmTextConfig,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
)
from vllm_stand_in import StandIn, free_port, refusal

from sefar_serve.engine import FAKE_METADATA
from sefar_serve.language import (
    AdapterMismatchError,
    ClipFeatures,
    FeatureMismatchError,
    GenerationFailedError,
    GenerationOptions,
    Generator,
    GeneratorOverloadedError,
    GeneratorUnavailableError,
    Message,
    PromptError,
    PromptTooLongError,
)
from sefar_serve.mllm import SefarForConditionalGeneration, SefarProcessor
from sefar_serve.mllm.adapter import Adapter, load_adapter, save_adapter
from sefar_serve.mllm.generator import LocalGenerator
from sefar_serve.mllm.prompt_embeddings import check_takes_rows, serialized
from sefar_serve.mllm.vllm import VllmGenerator, upstream

pytestmark = pytest.mark.anyio

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "RETRY_SECONDS", 0.05)


def clip(seed: int) -> ClipFeatures:
    rng = np.random.default_rng(seed)
    return ClipFeatures(
        rng.normal(size=EMBEDDING_DIM).astype(np.float32), rng.normal(size=(ELEMENTS, TOKEN_DIM)).astype(np.float32)
    )


CONVERSATIONS = {
    "text alone": [Message("user", ("Which salto?",))],
    "a clip": [Message("user", (clip(0), "What is it?"))],
    "two clips": [Message("user", (clip(1), "and", clip(2), "differ?"))],
    "several turns": [
        Message("system", ("Be brief.",)),
        Message("user", (clip(3), "What is it?")),
        Message("assistant", ("giant circle",)),
        Message("user", (clip(4), "And this?")),
    ],
    "a clip, then text": [
        Message("user", (clip(5), "What is it?")),
        Message("assistant", ("salto",)),
        Message("user", ("forward?",)),
    ],
}


@pytest.fixture(scope="module")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain language model as published ones are, without a placeholder."""
    folder = tmp_path_factory.mktemp("language-model")
    model = tiny_adapter().model.language_model
    tokenizer = tiny_tokenizer()
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_adapter(
    language_model: Path, folder: Path, tokenizer: PreTrainedTokenizerBase | None = None, *, lora: bool = False
) -> Path:
    processor = SefarProcessor(
        tokenizer or tiny_tokenizer(), embedding_dim=EMBEDDING_DIM, token_dim=TOKEN_DIM, elements=ELEMENTS
    )
    torch.manual_seed(1)
    model = SefarForConditionalGeneration.from_language_model(
        str(language_model),
        embedding_dim=EMBEDDING_DIM,
        token_dim=TOKEN_DIM,
        elements=ELEMENTS,
        sefar_token_id=processor.sefar_token_id,
    )
    model.config.encoder = {"name": FAKE_METADATA.name, "version": FAKE_METADATA.version}
    for weight in model.projector.parameters():
        torch.nn.init.normal_(weight, std=0.7)
    if lora:
        model.language_model = get_peft_model(model.language_model, LoraConfig(r=2, target_modules=["q_proj"]))
        for name, weight in model.language_model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=1.0)
    return save_adapter(model, processor, folder, whole=False)


@pytest.fixture(scope="module")
def adapter(language_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_adapter(language_model, tmp_path_factory.mktemp("adapter") / "captioner")


@pytest.fixture(scope="module")
def here(adapter: Path) -> Adapter:
    """The same adapter in this process."""
    return load_adapter(adapter, device="cpu")


@pytest.fixture
def new_server(language_model: Path) -> Callable[..., StandIn]:
    def make(folder: Path = language_model, **options: Any) -> StandIn:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        options = {"root": str(folder), "name": str(folder)} | options
        return StandIn(model, AutoTokenizer.from_pretrained(folder), free_port(), **options)

    return make


@pytest.fixture
def server(new_server: Callable[..., StandIn]) -> Iterator[StandIn]:
    with new_server().serving() as running:
        yield running


@asynccontextmanager
async def started(generator: VllmGenerator) -> AsyncIterator[VllmGenerator]:
    await generator.start()
    try:
        yield generator
    finally:
        await generator.close()


async def answer(generator: Generator, messages: Sequence[Message], options: GenerationOptions) -> tuple[Any, ...]:
    text, last = "", None
    async for piece in generator.generate(messages, options):
        text, last = text + piece.text, piece
    assert last is not None
    return text, last.finish_reason, last.usage


async def eventually(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not check():
            await asyncio.sleep(0.01)


async def ready(generator: VllmGenerator) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                return await generator.check()
            except (GeneratorUnavailableError, AdapterMismatchError):
                await asyncio.sleep(0.02)


@asynccontextmanager
async def in_process(adapter: Adapter) -> AsyncIterator[LocalGenerator]:
    generator = LocalGenerator(adapter)
    await generator.start()
    try:
        yield generator
    finally:
        await generator.close()


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


async def test_gateway_holds_no_layers_of_the_language_model(adapter: Path) -> None:
    model = VllmGenerator(adapter, "http://127.0.0.1:1")._embedder._model
    real = {name.split(".")[0] for name, weight in model.named_parameters() if weight.device.type != "meta"}
    held = [name for name, weight in model.language_model.named_parameters() if weight.device.type != "meta"]
    assert real == {"language_model", "projector"}
    assert held == ["model.embed_tokens.weight"]


async def test_another_language_model_of_the_same_width_is_rejected(
    language_model: Path, adapter: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    model = AutoModelForCausalLM.from_pretrained(language_model)
    torch.nn.init.normal_(model.get_input_embeddings().weight)
    model.save_pretrained(other)
    tiny_processor().tokenizer.save_pretrained(other)
    with pytest.raises(AdapterMismatchError, match="a different embedding;"):
        VllmGenerator(adapter, "http://127.0.0.1:1", language_model=str(other))


async def test_tokenizer_with_more_tokens_than_the_table(language_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "llm"
    AutoModelForCausalLM.from_pretrained(language_model).save_pretrained(folder)
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["one", "two"])
    tokenizer.save_pretrained(folder)
    adapter = make_adapter(folder, tmp_path / "adapter", tokenizer)
    here = load_adapter(adapter, device="cpu")  # the fingerprint is the same at every load
    assert torch.equal(_table(VllmGenerator(adapter, "http://127.0.0.1:1")), _rows(here))


def _rows(adapter: Adapter) -> torch.Tensor:
    return adapter.model.get_input_embeddings().weight[: adapter.processor.sefar_token_id]


async def test_the_table_is_read_from_sharded_weights(language_model: Path, adapter: Path, tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    AutoModelForCausalLM.from_pretrained(language_model).save_pretrained(shards, max_shard_size="20KB")
    tiny_tokenizer().save_pretrained(shards)
    assert (shards / "model.safetensors.index.json").is_file()
    generator = VllmGenerator(adapter, "http://127.0.0.1:1", language_model=str(shards))
    expected = VllmGenerator(adapter, "http://127.0.0.1:1")
    assert torch.equal(generator._embedder._model.get_input_embeddings().weight, _table(expected))


def _table(generator: VllmGenerator) -> torch.Tensor:
    return generator._embedder._model.get_input_embeddings().weight


async def test_scaling_inside_the_embedding_is_applied(new_server: Callable[..., StandIn], tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    torch.manual_seed(0)
    config = Gemma3TextConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        max_position_embeddings=CONTEXT,
        initializer_range=0.2,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    Gemma3ForCausalLM(config).save_pretrained(tmp_path / "gemma")
    tokenizer.save_pretrained(tmp_path / "gemma")
    folder = make_adapter(tmp_path / "gemma", tmp_path / "captioner")
    options = GenerationOptions(max_tokens=8)
    with new_server(tmp_path / "gemma").serving() as server:
        async with (
            started(VllmGenerator(folder, server.url)) as there,
            in_process(load_adapter(folder, device="cpu")) as local,
        ):
            for messages in CONVERSATIONS.values():
                assert await answer(there, messages, options) == await answer(local, messages, options)


@pytest.mark.parametrize(
    "config", [Gemma3nTextConfig(), HrmTextConfig()], ids=["lookups in layers", "scaled after the lookup"]
)
async def test_unsupported_language_models_are_rejected(config: PreTrainedConfig) -> None:
    with pytest.raises(AdapterMismatchError, match="run it in this process"):
        check_takes_rows(config)


async def test_whole_adapter_whose_language_model_has_the_placeholder(
    new_server: Callable[..., StandIn], tmp_path: Path
) -> None:
    adapter = tiny_adapter()
    folder = save_adapter(adapter.model, adapter.processor, tmp_path / "whole", whole=True)
    adapter.model.language_model.save_pretrained(tmp_path / "inside")
    adapter.processor.tokenizer.save_pretrained(tmp_path / "inside")
    options = GenerationOptions(max_tokens=12)
    with new_server(tmp_path / "inside", name="tiny").serving() as server:
        async with started(VllmGenerator(folder, server.url)) as there, in_process(adapter) as local:
            for messages in CONVERSATIONS.values():
                assert await answer(there, messages, options) == await answer(local, messages, options)
    assert server.seen[-1]["logit_bias"] == {str(adapter.processor.sefar_token_id): -100}


# peft uses the old name with transformers 5.23
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
async def test_a_lora_must_be_served(language_model: Path, new_server: Callable[..., StandIn], tmp_path: Path) -> None:
    folder = make_adapter(language_model, tmp_path / "with-lora", lora=True)
    merged = load_adapter(folder, device="cpu")
    server = new_server()
    with server.serving():
        async with started(VllmGenerator(folder, server.url)) as there:
            with pytest.raises(AdapterMismatchError, match=r"--lora-modules .*lora"):
                await there.check()
            # vLLM lists a LoRA with the base it belongs to; here the merged model stands for both.
            server.model = merged.model.language_model
            server.name, server.root, server.parent = "captioner", str(folder / "lora"), str(language_model)
            await ready(there)
            messages, options = CONVERSATIONS["a clip"], GenerationOptions(max_tokens=8)
            async with in_process(merged) as local:
                assert await answer(there, messages, options) == await answer(local, messages, options)


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


async def test_a_server_whose_context_is_shorter_than_it_reports(server: StandIn, adapter: Path) -> None:
    server.max_model_len = 64
    async with started(VllmGenerator(adapter, server.url)) as there:
        server.max_model_len = 8
        with pytest.raises(PromptTooLongError, match="maximum context length"):
            await answer(there, CONVERSATIONS["a clip"], GenerationOptions(max_tokens=8))


async def test_the_encoder_must_be_the_one_used_in_training(adapter: Path) -> None:
    there = VllmGenerator(adapter, "http://127.0.0.1:1")
    there.fits(FAKE_METADATA)
    with pytest.raises(AdapterMismatchError):
        there.fits(FAKE_METADATA.model_copy(update={"version": "other"}))


async def test_not_a_vllm_server(server: StandIn, adapter: Path) -> None:
    async with started(VllmGenerator(adapter, server.url + "/docs")) as there:
        with pytest.raises(GenerationFailedError, match="404"):
            await there.check()
    server.fail = refusal("never")
    async with started(VllmGenerator(adapter, server.url)) as there:
        with pytest.raises(GeneratorUnavailableError, match="never"):
            await there.check()
