"""The multimodal model over many classes of causal language models, each tiny and random: the table in the docs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from tiny_language_model import ELEMENTS, EMBEDDING_DIM, TOKEN_DIM, tiny_processor
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoProcessor, Trainer, TrainingArguments, pipeline

from sefar_serve.language import FeatureMismatchError, PromptError
from sefar_serve.mllm import SefarForConditionalGeneration, SefarMLLMConfig, SefarProcessor

pytestmark = [
    # peft, and every transformers 5 before 5.23, know these by the old name
    pytest.mark.filterwarnings("ignore:`(is_gradient_checkpointing|gradient_checkpointing_enable)`:FutureWarning"),
    # peft's own handling of "all-linear" where a layer is a Conv1D, or experts share one tensor
    pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False:UserWarning"),
    pytest.mark.filterwarnings("ignore:The following (rank|alpha)_pattern keys:RuntimeWarning"),
]

COMMON = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,
}
GPT = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 128, "initializer_range": 0.3}
FALCON = {name: COMMON[name] for name in COMMON if name not in ("head_dim", "intermediate_size")} | {
    "new_decoder_architecture": True,
    "num_kv_heads": 2,
    "ffn_hidden_size": 48,
}
MIXTURE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "router_aux_loss_coef": 0.0}
GEMMA3N = {"sliding_window": 8, "num_kv_shared_layers": 0, "laurel_rank": 4, "activation_sparsity_pattern": [0.0, 0.0]}
PER_LAYER = {"hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 293}

LANGUAGE_MODELS: dict[str, dict[str, Any]] = {
    "llama": COMMON,
    "qwen2": COMMON,
    "qwen3": COMMON,
    "qwen3_moe": COMMON | MIXTURE,
    "mistral": COMMON,
    "ministral3": COMMON,
    "mixtral": COMMON | {"num_local_experts": 4, "num_experts_per_tok": 2},
    "gemma": COMMON,
    "gemma2": COMMON | {"sliding_window": 8, "query_pre_attn_scalar": 16},
    "gemma3_text": COMMON | {"sliding_window": 8, "query_pre_attn_scalar": 16},
    "gemma4_text": COMMON | PER_LAYER | {"sliding_window": 8, "global_head_dim": 16, "num_kv_shared_layers": 0},
    "phi3": COMMON,
    "olmo2": COMMON,
    "smollm3": COMMON,
    "granite": COMMON,
    "cohere2": COMMON | {"sliding_window": 8},
    "exaone4": COMMON | {"sliding_window": 8},
    "gpt2": GPT,
    "gpt_neox": COMMON,
    "falcon": FALCON,
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 2, "initializer_range": 0.3},
    "opt": COMMON | {"ffn_dim": 48, "word_embed_proj_dim": 32, "init_std": 0.3},
    "gemma3n_text": COMMON | PER_LAYER | GEMMA3N,
    "lfm2": COMMON | {"full_attn_idxs": [1]},
}

Model = SefarForConditionalGeneration


def make(kind: str, processor: SefarProcessor) -> Model:
    tokenizer = processor.tokenizer
    ends = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    torch.manual_seed(0)
    config = SefarMLLMConfig(
        text_config=AutoConfig.for_model(kind, vocab_size=len(tokenizer), **ends, **LANGUAGE_MODELS[kind]),
        embedding_dim=EMBEDDING_DIM,
        token_dim=TOKEN_DIM,
        elements=ELEMENTS,
        sefar_token_id=processor.sefar_token_id,
    )
    model = SefarForConditionalGeneration(config).eval()
    for weight in model.projector.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    # Padding of zeros, which no published model has, would turn Gemma 3n's gradient into NaN.
    torch.nn.init.normal_(model.get_input_embeddings().weight.data[tokenizer.pad_token_id], std=0.3)
    return model


@pytest.fixture(scope="module")
def processor() -> SefarProcessor:
    return tiny_processor()


@pytest.fixture(params=list(LANGUAGE_MODELS))
def model(request: pytest.FixtureRequest, processor: SefarProcessor) -> Model:
    return make(request.param, processor)


def features(clips: int, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "sefar_embedding": torch.randn(clips, EMBEDDING_DIM, generator=generator),
        "sefar_tokens": torch.randn(clips, ELEMENTS, TOKEN_DIM, generator=generator),
    }


TEXTS = ["<|user|><sefar> forward?<|end|>", "<|user|>salto<|end|>", "<|user|><sefar> or <sefar>, tucked?<|end|>"]
CLIPS = [1, 0, 2]


def batch(processor: SefarProcessor, *rows: int) -> dict[str, Tensor]:
    """The requested texts and their clips, padded on the left."""
    chosen = rows or tuple(range(len(TEXTS)))
    every = features(sum(CLIPS))
    clips = [sum(CLIPS[:row]) + number for row in chosen for number in range(CLIPS[row])]
    given = {name: values[clips] for name, values in every.items()} if clips else {}
    return dict(processor([TEXTS[row] for row in chosen], padding=True, return_tensors="pt", **given))


GREEDY = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False}


def said(out: Tensor, inputs: dict[str, Tensor]) -> list[list[int]]:
    words: list[list[int]] = out[:, inputs["input_ids"].shape[1] :].tolist()
    return words


def test_loss_reaches_the_projector(model: Model, processor: SefarProcessor) -> None:
    inputs = batch(processor)
    model.train()(**inputs, labels=inputs["input_ids"]).loss.backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in model.projector.parameters())


def test_clip_changes_the_answer(model: Model, processor: SefarProcessor) -> None:
    inputs = batch(processor, 0)
    logits = model(**inputs).logits[0, -1]
    assert not torch.allclose(logits, model(**inputs | features(1, seed=9)).logits[0, -1], atol=1e-3)


def test_greedy_with_cache_matches_step_by_step(model: Model, processor: SefarProcessor) -> None:
    inputs = batch(processor, 2)
    ids = inputs["input_ids"]
    for _ in range(6):
        step = model(**inputs | {"input_ids": ids, "attention_mask": torch.ones_like(ids)}).logits[:, -1]
        step[:, processor.tokenizer.eos_token_id] = -torch.inf  # as min_new_tokens does
        ids = torch.cat([ids, step.argmax(-1, keepdim=True)], dim=1)
    assert model.generate(**inputs, **GREEDY).tolist() == ids.tolist()
    assert model.generate(**inputs, **GREEDY, use_cache=False).tolist() == ids.tolist()


def test_padded_batch_matches_single_rows(model: Model, processor: SefarProcessor) -> None:
    inputs = batch(processor)
    words = said(model.generate(**inputs, **GREEDY), inputs)
    for row in range(3):
        alone = batch(processor, row)
        assert said(model.generate(**alone, **GREEDY), alone) == [words[row]]


def test_beams_keep_their_clips(model: Model, processor: SefarProcessor) -> None:
    beams = GREEDY | {"num_beams": 3}
    inputs = batch(processor)
    words = said(model.generate(**inputs, **beams), inputs)
    for row in range(3):
        alone = batch(processor, row)
        assert said(model.generate(**alone, **beams), alone) == [words[row]]


def test_sampling(model: Model, processor: SefarProcessor) -> None:
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        out = model.generate(**batch(processor), max_new_tokens=8, do_sample=True, temperature=5.0, top_k=0)
        drawn.append(out.tolist())
    assert drawn[0] == drawn[1] != drawn[2]
    assert processor.sefar_token_id not in torch.tensor(drawn[0])[:, -8:]


def test_static_cache(model: Model, processor: SefarProcessor) -> None:
    inputs = batch(processor)
    expected = model.generate(**inputs, **GREEDY)
    assert torch.equal(
        model.generate(**inputs, **GREEDY, cache_implementation="static", disable_compile=True), expected
    )


def test_saved_and_loaded_by_the_auto_classes(model: Model, processor: SefarProcessor, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    reader = AutoProcessor.from_pretrained(tmp_path)
    assert isinstance(again, SefarForConditionalGeneration)
    assert isinstance(reader, SefarProcessor)
    assert torch.equal(model(**batch(processor)).logits, again(**batch(reader)).logits)


def test_language_model_from_its_own_folder(model: Model, processor: SefarProcessor, tmp_path: Path) -> None:
    model.language_model.save_pretrained(tmp_path)
    again = SefarForConditionalGeneration.from_language_model(
        str(tmp_path),
        embedding_dim=EMBEDDING_DIM,
        token_dim=TOKEN_DIM,
        elements=ELEMENTS,
        sefar_token_id=processor.sefar_token_id,
    ).eval()
    again.projector.load_state_dict(model.projector.state_dict())
    assert torch.equal(model(**batch(processor)).logits, again(**batch(processor)).logits)


def lora(**options: Any) -> peft.LoraConfig:
    return peft.LoraConfig(r=2, lora_alpha=8, target_modules="all-linear", init_lora_weights=False, **options)


def test_lora_of_the_language_model(model: Model, processor: SefarProcessor) -> None:
    inputs = batch(processor)
    plain = model(**inputs).logits
    model.language_model = peft.get_peft_model(model.language_model, lora())
    model.eval()
    adapted = model(**inputs).logits
    assert not torch.allclose(plain, adapted, atol=1e-3)
    model.train()(**inputs, labels=inputs["input_ids"]).loss.backward()
    trained = [name for name, weight in model.named_parameters() if weight.grad is not None]
    assert all("lora_" in name or name.startswith("projector.") for name in trained)
    words = model.eval().generate(**inputs, **GREEDY)
    model.language_model = model.language_model.merge_and_unload()
    torch.testing.assert_close(model(**inputs).logits, adapted, atol=1e-3, rtol=1e-3)
    assert torch.equal(model.generate(**inputs, **GREEDY), words)


def test_lora_of_the_whole_with_the_projector_saved(model: Model, processor: SefarProcessor, tmp_path: Path) -> None:
    inputs = batch(processor)
    config = lora(modules_to_save=["projector"], exclude_modules=r".*projector.*")
    wrapped = peft.get_peft_model(model, config).train()
    wrapped(**inputs, labels=inputs["input_ids"]).loss.backward()
    trained = {name for name, weight in wrapped.named_parameters() if weight.grad is not None and weight.grad.any()}
    assert any("projector.modules_to_save" in name for name in trained)
    assert not any("original_module" in name for name in trained)
    with torch.no_grad():
        for name, weight in wrapped.named_parameters():
            if "projector.modules_to_save" in name:
                weight.mul_(1.5)
    expected = wrapped.eval().generate(**inputs, **GREEDY)
    wrapped.save_pretrained(tmp_path, save_embedding_layers=False)
    kind = model.config.text_config.model_type
    again = peft.PeftModel.from_pretrained(make(kind, processor), tmp_path).eval()
    assert torch.equal(again.generate(**inputs, **GREEDY), expected)


def test_trainer_step(model: Model, processor: SefarProcessor, tmp_path: Path) -> None:
    before = {name: weight.clone() for name, weight in model.projector.named_parameters()}

    def collate(rows: list[int]) -> dict[str, Tensor]:
        inputs = batch(processor, *rows)
        return inputs | {"labels": inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)}

    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=2,
        per_device_train_batch_size=3,
        remove_unused_columns=False,
        report_to=[],
        use_cpu=True,
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    Trainer(model, arguments, train_dataset=[0, 1, 2], data_collator=collate).train()  # type: ignore[arg-type]
    assert all(not torch.equal(weight, before[name]) for name, weight in model.projector.named_parameters())


def test_text_generation_pipeline_on_text_alone(model: Model, processor: SefarProcessor) -> None:
    inputs = batch(processor, 1)
    expected = processor.tokenizer.decode(said(model.generate(**inputs, **GREEDY), inputs)[0], skip_special_tokens=True)
    speak = pipeline("text-generation", model=model, tokenizer=processor.tokenizer, device="cpu")
    (answer,) = speak(TEXTS[1], return_full_text=False, **GREEDY)
    assert answer["generated_text"] == expected


def test_gradient_checkpointing_changes_no_gradient(model: Model, processor: SefarProcessor) -> None:
    inputs = batch(processor)
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            assert model.is_gradient_checkpointing
        model.zero_grad()
        torch.manual_seed(0)  # some have dropout
        model.train()(**inputs, labels=inputs["input_ids"], use_cache=False).loss.backward()
        gradients.append([weight.grad.clone() for weight in model.projector.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


Change = Callable[[dict[str, Tensor]], dict[str, Tensor]]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda given: given | features(2), PromptError, "4 placeholders, but 2 clips need 8"),
        (lambda given: {"input_ids": given["input_ids"]}, PromptError, "4 placeholders, but 0 clips"),
        (lambda given: given | {"input_ids": given["input_ids"][:, 2:]}, PromptError, "3 placeholders"),
        (lambda given: given | {"sefar_embedding": torch.zeros(1, 9)}, FeatureMismatchError, r"\(1, 9\)"),
        (lambda given: given | {"sefar_tokens": torch.zeros(1, 2, 4)}, FeatureMismatchError, r"\(1, 2, 4\)"),
    ],
    ids=["clip too many", "no clip", "placeholder missing", "embedding's width", "elements"],
)
def test_prompt_whose_placeholders_do_not_fit_its_clips(
    processor: SefarProcessor, change: Change, error: type[Exception], message: str
) -> None:
    model, inputs = make("llama", processor), batch(processor, 0)
    wrong = change({name: values for name, values in inputs.items() if name != "attention_mask"})
    with pytest.raises(error, match=message):
        model(**wrong)
    with pytest.raises(error, match=message):
        model.generate(**wrong, max_new_tokens=2)


def test_processor_checks_counts_and_shapes(processor: SefarProcessor) -> None:
    with pytest.raises(PromptError, match="2 placeholders <sefar> for 1 clips"):
        processor("<sefar><sefar>", **features(1))
    with pytest.raises(PromptError, match="0 placeholders <sefar> for 1 clips"):
        processor("salto", **features(1))
    with pytest.raises(PromptError, match="1 placeholders <sefar> for 0 clips"):
        processor("<sefar>")
    with pytest.raises(FeatureMismatchError, match="one of them is missing"):
        processor("<sefar>", sefar_embedding=features(1)["sefar_embedding"])
    with pytest.raises(FeatureMismatchError, match="takes"):
        processor("<sefar>", **features(1) | {"sefar_tokens": torch.zeros(1, ELEMENTS, TOKEN_DIM + 1)})
    with pytest.raises(PromptError, match="control token"):
        processor.apply_chat_template([{"role": "user", "content": "say <sefar>"}])
    with pytest.raises(PromptError, match="'audio'"):
        processor.apply_chat_template([{"role": "user", "content": [{"type": "audio"}]}])
