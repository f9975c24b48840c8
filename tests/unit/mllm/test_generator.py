from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from tiny_language_model import CONTEXT, ELEMENTS, EMBEDDING_DIM, TOKEN_DIM, tiny_adapter

from sefar_serve.engine import FAKE_METADATA
from sefar_serve.language import (
    AdapterMismatchError,
    ClipFeatures,
    FeatureMismatchError,
    GenerationFailedError,
    GenerationOptions,
    GeneratorOverloadedError,
    GeneratorUnavailableError,
    Message,
    PromptError,
    PromptTooLongError,
    TokenUsage,
)
from sefar_serve.mllm.adapter import Adapter
from sefar_serve.mllm.generator import LocalGenerator
from sefar_serve.mllm.prompt import make_prompt

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def adapter() -> Adapter:
    return tiny_adapter()


def clip(seed: int) -> ClipFeatures:
    rng = np.random.default_rng(seed)
    return ClipFeatures(
        rng.normal(size=EMBEDDING_DIM).astype(np.float32), rng.normal(size=(ELEMENTS, TOKEN_DIM)).astype(np.float32)
    )


def asked(text: str = "What?", clips: int = 1) -> list[Message]:
    return [Message("user", (*(clip(seed) for seed in range(clips)), text))]


Answer = tuple[str, str | None, TokenUsage | None]


async def answer(generator: LocalGenerator, messages: Sequence[Message], options: GenerationOptions) -> Answer:
    text, reason, usage = "", None, None
    async for piece in generator.generate(messages, options):
        text, reason, usage = text + piece.text, piece.finish_reason, piece.usage
    return text, reason, usage


def plainly(adapter: Adapter, messages: Sequence[Message], tokens: int) -> str:
    """What transformers itself generates."""
    prompt = make_prompt(adapter.processor, messages)
    with torch.inference_mode():
        out = adapter.model.generate(
            torch.tensor([prompt.ids]),
            sefar_embedding=prompt.sefar_embedding,
            sefar_tokens=prompt.sefar_tokens,
            max_new_tokens=tokens,
            do_sample=False,
        )
    return adapter.processor.tokenizer.decode(out[0, len(prompt.ids) :], skip_special_tokens=True)


async def test_answers_match_transformers(adapter: Adapter) -> None:
    async with running(adapter) as generator:
        for clips in range(3):
            text, reason, usage = await answer(generator, asked(clips=clips), GenerationOptions(max_tokens=12))
            # A character that the last token leaves incomplete is not returned.
            assert text.rstrip("\ufffd") == plainly(adapter, asked(clips=clips), 12).rstrip("\ufffd")
            assert reason == "length"
            assert usage is not None and usage.completion_tokens == 12


async def test_an_answer_does_not_depend_on_its_batch(adapter: Adapter) -> None:
    requests = [
        (asked("What is it? " * i, clips=i % 3), GenerationOptions(6 + i, temperature=i % 2 * 1.0, top_p=0.9, seed=i))
        for i in range(6)
    ]
    async with running(adapter) as generator:
        alone = [await answer(generator, *request) for request in requests]
        together = await asyncio.gather(*(answer(generator, *request) for request in requests))
    assert alone == together
    assert len({text for text, _, _ in alone}) == len(requests)


async def test_a_seed_repeats_a_sample_and_no_seed_does_not(adapter: Adapter) -> None:
    async with running(adapter) as generator:
        one, same, other, free, free_again = [
            (await answer(generator, asked(), GenerationOptions(24, temperature=1.0, seed=seed)))[0]
            for seed in (1, 1, 2, None, None)
        ]
    assert one == same
    assert len({one, other, free, free_again}) == 4


async def test_samples_follow_the_model_probabilities(adapter: Adapter) -> None:
    prompt = make_prompt(adapter.processor, asked())
    with torch.inference_mode():
        logits = adapter.model(
            torch.tensor([prompt.ids]), sefar_embedding=prompt.sefar_embedding, sefar_tokens=prompt.sefar_tokens
        ).logits[0, -1]
    temperature = float(logits.std())  # flat enough for several tokens to be sampled
    expected = (logits / temperature).softmax(-1)
    best = int(expected.argmax())
    async with running(adapter, max_queue=400) as generator:
        drawn = await asyncio.gather(
            *(answer(generator, asked(), GenerationOptions(1, temperature=temperature, seed=s)) for s in range(400))
        )
    word = adapter.processor.tokenizer.decode([best])
    share = sum(text == word for text, _, _ in drawn) / len(drawn)
    assert share == pytest.approx(float(expected[best]), abs=0.1)


async def test_stop_texts_end_the_answer(adapter: Adapter) -> None:
    whole = plainly(adapter, asked(), 12)
    stop = whole[4:6]
    async with running(adapter) as generator:
        text, reason, _ = await answer(generator, asked(), GenerationOptions(12, stop=(stop,)))
    assert text == whole[: whole.index(stop)]
    assert reason == "stop"


async def test_scores_are_sums_of_log_probabilities(adapter: Adapter) -> None:
    options = ["salto forward tucked", "giant circle", "x"]
    async with running(adapter, max_batch=2) as generator:
        scores = await generator.score(asked(), options)
    prompt = make_prompt(adapter.processor, asked())
    tokenizer = adapter.processor.tokenizer
    for option, scored in zip(options, scores.options, strict=True):
        ids = [*tokenizer(option)["input_ids"], tokenizer.eos_token_id]
        with torch.inference_mode():
            logits = adapter.model(
                torch.tensor([prompt.ids + ids]),
                sefar_embedding=prompt.sefar_embedding,
                sefar_tokens=prompt.sefar_tokens,
            ).logits[0]
        judged = logits.log_softmax(-1)[len(prompt.ids) - 1 : -1]
        assert scored.logprob == pytest.approx(float(judged[range(len(ids)), ids].sum()), abs=1e-3)
        assert scored.tokens == len(ids)


async def test_an_answer_may_be_as_long_as_the_context_leaves_room(adapter: Adapter) -> None:
    async with running(adapter) as generator:
        _, reason, usage = await answer(generator, asked("a"), GenerationOptions(max_tokens=CONTEXT))
        assert usage.prompt_tokens + usage.completion_tokens <= CONTEXT
        assert reason == "stop" or usage.prompt_tokens + usage.completion_tokens == CONTEXT


@pytest.mark.parametrize(
    ("messages", "options", "error", "message"),
    [
        (asked("a" * 2000), GenerationOptions(), PromptTooLongError, f"may have {CONTEXT}"),
        (asked("look at <sefar>"), GenerationOptions(), PromptError, "<sefar>"),
        (asked("a<|end|>"), GenerationOptions(), PromptError, r"<\|end\|>"),
        ([], GenerationOptions(), PromptError, "no message"),
        (
            [Message("user", (ClipFeatures(np.zeros(9, np.float32), clip(0).tokens), "a"))],
            GenerationOptions(),
            FeatureMismatchError,
            "use the encoder",
        ),
    ],
)
async def test_a_bad_request_gets_an_error_and_the_next_one_an_answer(
    adapter: Adapter, messages: list[Message], options: GenerationOptions, error: type[Exception], message: str
) -> None:
    async with running(adapter) as generator:
        with pytest.raises(error, match=message):
            await answer(generator, messages, options)
        assert generator.queue_depth == 0
        assert (await answer(generator, asked(), GenerationOptions(3)))[0]


async def test_options_that_cannot_be_scored(adapter: Adapter) -> None:
    async with running(adapter) as generator:
        with pytest.raises(PromptError, match="none of them empty"):
            await generator.score(asked(), ["salto", " "])
        with pytest.raises(PromptTooLongError, match="longest option"):
            await generator.score(asked(), ["salto", "a" * 2000])
        assert generator.queue_depth == 0


async def test_a_caller_that_leaves_frees_its_slot(adapter: Adapter) -> None:
    async with running(adapter, max_queue=1) as generator:
        pieces = generator.generate(asked(), GenerationOptions(200, temperature=1.0, seed=0))
        await anext(pieces)
        with pytest.raises(GeneratorOverloadedError) as refused:
            await answer(generator, asked(), GenerationOptions(3))
        assert refused.value.retry_after >= 1
        await pieces.aclose()
        assert generator.queue_depth == 0
        assert (await answer(generator, asked(), GenerationOptions(3)))[0]


async def test_a_request_that_breaks_the_model_does_not_fail_its_batch(
    adapter: Adapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = adapter.model.generate

    def fragile(input_ids: torch.Tensor, **options: object) -> object:
        if (input_ids == adapter.processor.tokenizer.convert_tokens_to_ids("!")).any():
            raise RuntimeError("out of memory")
        return whole(input_ids, **options)

    async with running(adapter) as generator:
        monkeypatch.setattr(adapter.model, "generate", fragile)
        answers = await asyncio.gather(
            *(answer(generator, asked(text), GenerationOptions(3)) for text in ("a", "!", "b", "c")),
            return_exceptions=True,
        )
        assert isinstance(answers[1], GenerationFailedError)
        assert "out of memory" in str(answers[1])
        assert [type(found) for found in answers] == [tuple, GenerationFailedError, tuple, tuple]
        await generator.check()


async def test_closing_ends_running_requests(adapter: Adapter) -> None:
    generator = LocalGenerator(adapter)
    with pytest.raises(GeneratorUnavailableError, match="starting"):
        await generator.check()
    await generator.start()
    # So slow that the text does not end before the generator is closed.
    slow = adapter.model.language_model.register_forward_pre_hook(lambda *_: time.sleep(0.02))
    pieces = generator.generate(asked(), GenerationOptions(240, temperature=1.0, seed=0))
    await anext(pieces)
    waiting = asyncio.create_task(anext(generator.generate(asked(), GenerationOptions(3))))
    await asyncio.sleep(0)
    await generator.close()
    slow.remove()
    with pytest.raises(GeneratorUnavailableError, match="shutting down"):
        async for _ in pieces:
            continue
    with pytest.raises(GeneratorUnavailableError):
        await waiting
    assert generator.queue_depth == 0


def test_an_encoder_with_another_name_is_refused(adapter: Adapter) -> None:
    generator = LocalGenerator(adapter)
    generator.fits(FAKE_METADATA)
    for change in ({"name": "other"}, {"version": "2"}, {"embedding_dim": 9}):
        with pytest.raises(AdapterMismatchError, match="sefar adapter train"):
            generator.fits(FAKE_METADATA.model_copy(update=change))


class running:
    """A started generator, closed at the end."""

    def __init__(self, adapter: Adapter, **options: int) -> None:
        self._generator = LocalGenerator(adapter, **options)

    async def __aenter__(self) -> LocalGenerator:
        await self._generator.start()
        return self._generator

    async def __aexit__(self, *_: object) -> None:
        await self._generator.close()
