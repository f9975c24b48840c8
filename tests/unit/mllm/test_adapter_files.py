from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_language_model import ELEMENTS, EMBEDDING_DIM, TOKEN_DIM, tiny_adapter, tiny_processor
from transformers import AutoModelForCausalLM, AutoProcessor, LlamaConfig, LlamaForCausalLM

from sefar_serve.language import AdapterMismatchError, AdapterNotFoundError
from sefar_serve.mllm import SefarForConditionalGeneration, SefarProcessor
from sefar_serve.mllm.adapter import (
    Adapter,
    embedding_fingerprint,
    load_adapter,
    save_adapter,
    tokenizer_fingerprint,
)

# peft 0.21 asks transformers 5.23 for a property that has a new name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


@pytest.fixture(scope="module")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain language model whose table has no row for the placeholder."""
    return plain_model(tmp_path_factory.mktemp("lm") / "plain", seed=0)


def plain_model(folder: Path, seed: int) -> Path:
    processor = tiny_processor()
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=processor.sefar_token_id,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        initializer_range=0.5,
        eos_token_id=processor.tokenizer.eos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def beside(language_model: Path) -> Adapter:
    processor = tiny_processor()
    torch.manual_seed(1)
    model = SefarForConditionalGeneration.from_language_model(
        str(language_model),
        embedding_dim=EMBEDDING_DIM,
        token_dim=TOKEN_DIM,
        elements=ELEMENTS,
        sefar_token_id=processor.sefar_token_id,
    )
    model.config.name = "beside"
    return Adapter(model.eval(), processor)


def logits(adapter: Adapter) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    batch = adapter.processor(
        ["<sefar>salto <sefar> backward"],
        torch.randn(2, EMBEDDING_DIM, generator=generator),
        torch.randn(2, ELEMENTS, TOKEN_DIM, generator=generator),
        return_tensors="pt",
    )
    with torch.inference_mode():
        out: torch.Tensor = adapter.model(**batch).logits
    return out


def test_a_whole_adapter_survives_saving_and_loading(tmp_path: Path) -> None:
    adapter = tiny_adapter()
    folder = save_adapter(*adapter, tmp_path / "whole", whole=True)
    again = load_adapter(folder)
    torch.testing.assert_close(logits(again), logits(adapter))
    assert again.model.config.name == "tiny"
    assert again.processor.elements == ELEMENTS
    # And by the classes that users of transformers look for.
    assert isinstance(AutoModelForCausalLM.from_pretrained(folder), SefarForConditionalGeneration)
    assert isinstance(AutoProcessor.from_pretrained(folder), SefarProcessor)


def test_half_precision_halves_the_file_and_runs_in_single_on_the_cpu(tmp_path: Path) -> None:
    adapter = tiny_adapter()
    sizes = {}
    for dtype in (torch.float32, torch.float16):
        folder = save_adapter(*adapter, tmp_path / str(dtype), whole=True, dtype=dtype)
        sizes[dtype] = (folder / "model.safetensors").stat().st_size
    assert sizes[torch.float16] < 0.6 * sizes[torch.float32]
    again = load_adapter(tmp_path / str(torch.float16), device="cpu")
    assert again.model.dtype == torch.float32
    assert adapter.model.dtype == torch.float32
    torch.testing.assert_close(logits(again), logits(adapter), atol=0.1, rtol=0.1)


@pytest.mark.parametrize("lora", [False, True])
def test_an_adapter_without_its_language_model(tmp_path: Path, language_model: Path, lora: bool) -> None:
    adapter = beside(language_model)
    before = logits(adapter)
    if lora:
        config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
        adapter.model.language_model = get_peft_model(adapter.model.language_model, config)
        adapter.model.eval()
        assert not torch.allclose(logits(adapter), before)
    folder = save_adapter(*adapter, tmp_path / "adapter", whole=False)
    assert not (folder / "model.safetensors").exists()
    again = load_adapter(folder)
    torch.testing.assert_close(logits(again), logits(adapter), atol=1e-4, rtol=1e-4)
    assert again.model.config.name == "beside"


def test_another_language_model_of_the_same_width_is_refused(tmp_path: Path, language_model: Path) -> None:
    folder = save_adapter(*beside(language_model), tmp_path / "adapter", whole=False)
    other = plain_model(tmp_path / "other", seed=9)
    with pytest.raises(AdapterMismatchError, match="a different embedding; use the same model"):
        load_adapter(folder, language_model=str(other))
    assert load_adapter(folder, language_model=str(language_model)).model.config.name == "beside"


def test_another_tokenizer_is_refused(tmp_path: Path, language_model: Path) -> None:
    folder = save_adapter(*beside(language_model), tmp_path / "adapter", whole=False)
    settings = json.loads((folder / "sefar_adapter.json").read_text())
    settings["fingerprint"]["tokenizer"] = "0" * 64
    (folder / "sefar_adapter.json").write_text(json.dumps(settings))
    with pytest.raises(AdapterMismatchError, match="a different tokenizer"):
        load_adapter(folder)


def test_fingerprints_distinguish_models_but_not_dtypes() -> None:
    table = torch.randn(300, 16, generator=torch.Generator().manual_seed(0))
    assert embedding_fingerprint(table, 300) == embedding_fingerprint(table.bfloat16().float(), 300)
    assert embedding_fingerprint(table, 300) == embedding_fingerprint(torch.cat([table, table[:1]]), 300)
    assert embedding_fingerprint(table, 300) != embedding_fingerprint(table, 299)
    assert embedding_fingerprint(table, 300) != embedding_fingerprint(table + 0.1, 300)
    tokenizer = tiny_processor().tokenizer
    before = tokenizer_fingerprint(tokenizer)
    tokenizer.chat_template = "{{ messages }}"
    assert tokenizer_fingerprint(tokenizer) != before


def test_error_says_what_is_not_an_adapter(
    tmp_path: Path, language_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(AdapterNotFoundError, match="no/such is not a local folder"):
        load_adapter("no/such")
    with pytest.raises(AdapterNotFoundError, match=r"neither sefar_adapter\.json nor"):
        load_adapter(tmp_path)
    with pytest.raises(AdapterNotFoundError, match="holds a llama model, not an adapter"):
        load_adapter(language_model)


def test_a_lora_must_be_merged_before_a_whole_adapter_is_saved(tmp_path: Path, language_model: Path) -> None:
    adapter = beside(language_model)
    adapter.model.language_model = get_peft_model(adapter.model.language_model, LoraConfig(target_modules=["q_proj"]))
    with pytest.raises(ValueError, match="merge the LoRA first"):
        save_adapter(*adapter, tmp_path / "adapter", whole=True)
    assert not (tmp_path / "adapter").exists()


def test_weights_that_can_run_code_are_not_loaded(language_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "lm"
    shutil.copytree(language_model, folder)
    plain = AutoModelForCausalLM.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    torch.save(plain.state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        beside(folder)
