"""Generators, adapters and conversations for the tests of the vLLM generator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from tiny_language_model import (
    ELEMENTS,
    EMBEDDING_DIM,
    TOKEN_DIM,
    tiny_tokenizer,
)
from transformers import (
    PreTrainedTokenizerBase,
)

from sefar_serve.engine import FAKE_METADATA
from sefar_serve.language import (
    AdapterMismatchError,
    ClipFeatures,
    GenerationOptions,
    Generator,
    GeneratorUnavailableError,
    Message,
)
from sefar_serve.mllm import SefarForConditionalGeneration, SefarProcessor
from sefar_serve.mllm.adapter import Adapter, save_adapter
from sefar_serve.mllm.generator import LocalGenerator
from sefar_serve.mllm.vllm import VllmGenerator

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"


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
