"""Which language models and adapters the vLLM generator takes, and how it reads their embedding table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_language_model import (
    CONTEXT,
    tiny_adapter,
    tiny_processor,
    tiny_tokenizer,
)
from transformers import (
    AutoModelForCausalLM,
    Gemma3ForCausalLM,
    Gemma3nTextConfig,
    Gemma3TextConfig,
    HrmTextConfig,
    PreTrainedConfig,
)
from vllm_generators import (
    CONVERSATIONS,
    answer,
    in_process,
    make_adapter,
    ready,
    started,
)
from vllm_stand_in import StandIn

from sefar_serve.engine import FAKE_METADATA
from sefar_serve.language import (
    AdapterMismatchError,
    GenerationOptions,
)
from sefar_serve.mllm.adapter import Adapter, load_adapter, save_adapter
from sefar_serve.mllm.prompt_embeddings import check_takes_rows
from sefar_serve.mllm.vllm import VllmGenerator

pytestmark = pytest.mark.anyio


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


async def test_the_encoder_must_be_the_one_used_in_training(adapter: Path) -> None:
    there = VllmGenerator(adapter, "http://127.0.0.1:1")
    there.fits(FAKE_METADATA)
    with pytest.raises(AdapterMismatchError):
        there.fits(FAKE_METADATA.model_copy(update={"version": "other"}))
