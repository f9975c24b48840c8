"""The generator with a real vLLM, if there is one: ``SEFAR_VLLM=/path/to/bin/vllm`` (a CPU build is enough)."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx
import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_language_model import CONTEXT, ELEMENTS, EMBEDDING_DIM, TOKEN_DIM, tiny_tokenizer
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from vllm_generators import CONVERSATIONS, answer, in_process, started
from vllm_stand_in import free_port

from sefar_serve.language import GenerationOptions, GeneratorUnavailableError
from sefar_serve.mllm import SefarForConditionalGeneration, SefarProcessor
from sefar_serve.mllm.adapter import load_adapter, save_adapter
from sefar_serve.mllm.vllm import VllmGenerator, upstream
from sefar_serve.mllm.vllm.routes import Chat

VLLM = os.environ.get("SEFAR_VLLM", "")
pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not VLLM, reason="set SEFAR_VLLM to the vllm executable"),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]
SIZES = {
    "hidden_size": 128,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 64,  # the smallest that vLLM's attention supports on every machine
    "max_position_embeddings": CONTEXT,
    "initializer_range": 0.2,
}
LANGUAGE_MODELS = ["llama", "qwen2", "qwen3", "mistral", "gemma2", "gemma3_text", "phi3", "olmo2", "granite"]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@contextmanager
def vllm(model: Path, *options: str) -> Iterator[str]:
    """Run a server of a model; yields its URL."""
    port, log = free_port(), model.parent / "vllm.log"
    command = [VLLM, "serve", str(model), "--host", "127.0.0.1", "--port", str(port), "--dtype", "float32"]
    command += ["--enforce-eager", "--max-model-len", str(CONTEXT), "--max-num-seqs", "8", *options]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
    with log.open("w") as written:
        server = subprocess.Popen(command, stdout=written, stderr=subprocess.STDOUT, env=environment)
    try:
        while True:
            assert server.poll() is None, log.read_text()[-3000:]
            try:
                httpx.get(f"http://127.0.0.1:{port}/health")
                break
            except httpx.TransportError:
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(60)


def make(folder: Path, kind: str, *, lora: bool = False) -> Path:
    """Make a language model of some class and an adapter for it; return the adapter's folder."""
    tokenizer = tiny_tokenizer()
    torch.manual_seed(0)
    ends = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    config = AutoConfig.for_model(kind, vocab_size=len(tokenizer), **SIZES, **ends)
    language_model = AutoModelForCausalLM.from_config(config)
    for name, weight in language_model.named_parameters():
        if "post_" in name and kind.startswith("gemma"):
            # The head of Gemma is the scaled embedding, so untrained ones would repeat the last token forever.
            torch.nn.init.constant_(weight, 8.0)
    language_model.save_pretrained(folder / "llm")
    tokenizer.save_pretrained(folder / "llm")
    # Loaded again as users do, because some classes (Qwen2) use their own tokenizer whatever was saved.
    tokenizer = AutoTokenizer.from_pretrained(folder / "llm")
    processor = SefarProcessor(tokenizer, embedding_dim=EMBEDDING_DIM, token_dim=TOKEN_DIM, elements=ELEMENTS)
    model = SefarForConditionalGeneration.from_language_model(
        str(folder / "llm"),
        embedding_dim=EMBEDDING_DIM,
        token_dim=TOKEN_DIM,
        elements=ELEMENTS,
        sefar_token_id=processor.sefar_token_id,
    )
    for weight in model.projector.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    if lora:
        model.language_model = get_peft_model(
            model.language_model, LoraConfig(r=8, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
        )
        for name, weight in model.language_model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.2)
    return save_adapter(model, processor, folder / "adapter", whole=False)


@asynccontextmanager
async def over_chat(generator: VllmGenerator) -> AsyncIterator[VllmGenerator]:
    async with started(generator) as there:
        served = there._upstream.ready()
        there._upstream.served = upstream.Served(served.model, Chat())
        yield there


async def compared(folder: Path, url: str, *, chat: bool = False) -> None:
    """Compare answers and scores of the server with those in process."""
    options, texts = GenerationOptions(max_tokens=12), set()
    choices = ["salto forward", "salto backward", "giant circle"]
    generator = VllmGenerator(folder, url)
    async with (
        (over_chat if chat else started)(generator) as there,
        in_process(load_adapter(folder, device="cpu")) as here,
    ):
        for messages in CONVERSATIONS.values():
            expected = await answer(here, messages, options)
            assert await answer(there, messages, options) == expected
            texts.add(expected[0])
            scores, found = await here.score(messages, choices), await there.score(messages, choices)
            for one, other in zip(found.options, scores.options, strict=True):
                assert one.logprob == pytest.approx(other.logprob, abs=2e-3)
    assert len(texts) > 3


@pytest.mark.parametrize("kind", LANGUAGE_MODELS)
async def test_answers_and_scores_equal_those_in_process(kind: str, tmp_path: Path) -> None:
    folder = make(tmp_path, kind)
    with vllm(tmp_path / "llm", "--enable-prompt-embeds") as url:
        await compared(folder, url)
        await compared(folder, url, chat=True)


async def test_lora_of_the_adapter(tmp_path: Path) -> None:
    folder = make(tmp_path, "llama", lora=True)
    name = load_adapter(folder, device="cpu").model.config.name
    served = ("--enable-lora", "--max-lora-rank", "8", "--lora-modules", f"{name}={folder / 'lora'}")
    with vllm(tmp_path / "llm", "--enable-prompt-embeds", *served) as url:
        await compared(folder, url)


async def test_missing_flag(tmp_path: Path) -> None:
    folder = make(tmp_path, "llama")
    with vllm(tmp_path / "llm") as url:
        async with started(VllmGenerator(folder, url)) as there:
            with pytest.raises(GeneratorUnavailableError, match="--enable-prompt-embeds"):
                await there.check()
