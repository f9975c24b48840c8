from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_language_model import tiny_tokenizer
from torch import Tensor
from transformers import (
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    PreTrainedModel,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Config,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    SiglipVisionConfig,
)

from sefar_serve.language import AdapterMismatchError, AdapterNotFoundError, FeatureMismatchError, PromptError
from sefar_serve.mllm.beside import SefarBesideVision

SIZES = {"embedding_dim": 8, "token_dim": 4, "elements": 3}
VIDEO, START, END, IMAGE = 280, 281, 282, 283
TEXT = {
    "vocab_size": len(tiny_tokenizer()),
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.4,
    "bos_token_id": None,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
ROPE = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 100.0}
IDS = {
    "image_token_id": IMAGE,
    "video_token_id": VIDEO,
    "vision_start_token_id": START,
    "vision_end_token_id": END,
    "tie_word_embeddings": False,
}


def qwen2_5_vl() -> PreTrainedModel:
    vision = {"depth": 2, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 32}
    vision |= {"patch_size": 4, "fullatt_block_indexes": [1], "window_size": 16}
    config = Qwen2_5_VLConfig(text_config=TEXT | {"rope_parameters": ROPE}, vision_config=vision, **IDS)
    return Qwen2_5_VLForConditionalGeneration(config)


def qwen3_vl() -> PreTrainedModel:
    vision = {"depth": 2, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 32}
    vision |= {"patch_size": 4, "deepstack_visual_indexes": [0], "num_position_embeddings": 16}
    text = TEXT | {"head_dim": 16, "rope_parameters": ROPE | {"mrope_interleaved": True}}
    return Qwen3VLForConditionalGeneration(Qwen3VLConfig(text_config=text, vision_config=vision, **IDS))


def llava_onevision() -> PreTrainedModel:
    vision = SiglipVisionConfig(
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=16,
        patch_size=4,
        vision_use_head=False,
    )
    config = LlavaOnevisionConfig(
        text_config=Qwen2Config(**TEXT),
        vision_config=vision,
        image_token_index=IMAGE,
        video_token_index=VIDEO,
        vision_feature_layer=-1,
        tie_word_embeddings=False,
    )
    return LlavaOnevisionForConditionalGeneration(config)


def qwen_video(seed: int) -> tuple[int, dict[str, Tensor]]:
    """4 frames of 16x16 pixels: 2 x 4 x 4 patches, merged by 2 x 2 into 8 tokens."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randn(2 * 4 * 4, 3 * 2 * 4 * 4, generator=generator)
    return 8, {"pixel_values_videos": pixels, "video_grid_thw": torch.tensor([[2, 4, 4]])}


def qwen3_video(seed: int) -> tuple[int, dict[str, Tensor]]:
    """The same, but the model takes each pair of frames as a separate video, with timestamps between them."""
    _, inputs = qwen_video(seed)
    return 8, inputs


def llava_video(seed: int) -> tuple[int, dict[str, Tensor]]:
    """2 frames of 4 x 4 patches, pooled to 2 x 2, and an end-of-line token."""
    generator = torch.Generator().manual_seed(seed)
    return 2 * 4 + 1, {"pixel_values_videos": torch.randn(1, 2, 3, 16, 16, generator=generator)}


CLASSES: dict[str, tuple[Callable[[], PreTrainedModel], Callable[[int], tuple[int, dict[str, Tensor]]]]] = {
    "Qwen2.5-VL": (qwen2_5_vl, qwen_video),
    "Qwen3-VL": (qwen3_vl, qwen3_video),
    "LLaVA-OneVision": (llava_onevision, llava_video),
}


def make(name: str) -> SefarBesideVision:
    torch.manual_seed(0)
    vlm = CLASSES[name][0]().eval()
    torch.manual_seed(1)
    tokenizer = tiny_tokenizer()
    beside = SefarBesideVision(vlm, tokenizer, **SIZES)
    for weight in beside.projector.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    return beside.eval()


@pytest.fixture(params=list(CLASSES))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def beside(name: str) -> SefarBesideVision:
    return make(name)


def features(clips: int, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "sefar_embedding": torch.randn(clips, 8, generator=generator),
        "sefar_tokens": torch.randn(clips, 3, 4, generator=generator),
    }


def prompt(beside: SefarBesideVision, name: str, *, seed: int = 0, words: int = 4) -> dict[str, Any]:
    """A video, SeFAR's features of it, and a question."""
    count, video = CLASSES[name][1](seed)
    halves = 2 if name == "Qwen3-VL" else 1  # its processor writes a time before each pair of frames
    seen = [[7, START, *[VIDEO] * (count // halves), END] for _ in range(halves)]
    ids = [5, *itertools.chain(*seen), *[beside.sefar_token_id] * 4, *range(20, 20 + words)]
    return {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids), dtype=torch.long), **video}


def hooked(beside: SefarBesideVision, inputs: dict[str, Any], clips: dict[str, Tensor], **options: Any) -> Tensor:
    """The model's answer when a hook makes its embedding module return the soft tokens, so that ids go all the way."""
    soft = beside.projector(**clips).flatten(0, 1)

    def put(module: torch.nn.Module, given: tuple[Tensor, ...], out: Tensor) -> Tensor:
        places = given[0] == beside.sefar_token_id
        return out.masked_scatter(places.unsqueeze(-1), soft) if places.any() else out

    hook = beside.vlm.get_input_embeddings().register_forward_hook(put)
    if hasattr(beside.vlm.model, "get_rope_index"):
        inputs = inputs | {"mm_token_type_ids": (inputs["input_ids"] == VIDEO).long() * 2}
    try:
        with torch.no_grad():
            return beside.vlm.generate(**inputs, **options, suppress_tokens=[beside.sefar_token_id])
    finally:
        hook.remove()


GREEDY = {"max_new_tokens": 8, "do_sample": False, "min_new_tokens": 8}


def test_generates_the_same_as_with_a_hook_on_the_embeddings(beside: SefarBesideVision, name: str) -> None:
    said = []
    for seed in range(4):
        inputs, clips = prompt(beside, name, seed=seed), features(1, seed)
        out = beside.generate(**inputs, **clips, **GREEDY)
        assert torch.equal(out, hooked(beside, inputs, clips, **GREEDY))
        said.append(out[0, inputs["input_ids"].shape[1] :].tolist())
    assert len({tuple(words) for words in said}) > 1


def test_clip_video_and_cache(beside: SefarBesideVision, name: str) -> None:
    inputs, clips = prompt(beside, name), features(1)
    logits = beside(**inputs, **clips).logits
    assert bool((logits[..., beside.sefar_token_id] == torch.finfo(logits.dtype).min).all())
    assert not torch.allclose(logits, beside(**inputs, **features(1, 5)).logits)
    assert not torch.allclose(logits, beside(**inputs | prompt(beside, name, seed=5), **clips).logits)
    cached = beside.generate(**inputs, **clips, **GREEDY)
    # Token by token, each time from the beginning, through the plain forward pass.
    ids = inputs["input_ids"]
    for _ in range(8):
        again = inputs | {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        step = beside(**again, **clips).logits[:, -1]
        step[:, 1] = -torch.inf  # as min_new_tokens does
        ids = torch.cat([ids, step.argmax(-1, keepdim=True)], dim=1)
    assert torch.equal(cached, ids)


def test_forward_after_generation_is_unchanged(beside: SefarBesideVision, name: str) -> None:
    inputs, clips = prompt(beside, name), features(1)
    before = beside(**inputs, **clips).logits
    beside.generate(**prompt(beside, name, words=9), **clips, **GREEDY)
    assert torch.equal(before, beside(**inputs, **clips).logits)


@pytest.mark.parametrize("name", ["Qwen2.5-VL", "Qwen3-VL"])
def test_positions_count_the_video(beside: SefarBesideVision, name: str) -> None:
    """With embeddings alone the Qwen models number their tokens consecutively, which this class prevents."""
    inputs, clips = prompt(beside, name), features(1)
    embeds = beside.embed_prompt(inputs.pop("input_ids"), **clips)
    with torch.no_grad():
        trapped = beside.vlm(inputs_embeds=embeds, **inputs).logits
    assert not torch.allclose(trapped, beside(**prompt(beside, name), **clips).logits, atol=1e-3)


def test_rows_of_a_batch_do_not_affect_each_other(beside: SefarBesideVision, name: str) -> None:
    short, long = prompt(beside, name, seed=1, words=2), prompt(beside, name, seed=2, words=6)
    missing = long["input_ids"].shape[1] - short["input_ids"].shape[1]
    pad = torch.zeros(1, missing, dtype=torch.long)
    both = {
        "input_ids": torch.cat([torch.cat([pad, short["input_ids"]], dim=1), long["input_ids"]]),
        "attention_mask": torch.cat([torch.cat([pad, short["attention_mask"]], dim=1), long["attention_mask"]]),
        **{key: torch.cat([short[key], long[key]]) for key in short if key not in ("input_ids", "attention_mask")},
    }
    out = beside.generate(**both, **features(2), **GREEDY)
    one, other = features(2), features(2)
    first = beside.generate(**short, **{key: value[:1] for key, value in one.items()}, **GREEDY)
    second = beside.generate(**long, **{key: value[1:] for key, value in other.items()}, **GREEDY)
    assert torch.equal(out[0, -8:], first[0, -8:])
    assert torch.equal(out[1, -8:], second[0, -8:])


def test_loss_reaches_the_projector(beside: SefarBesideVision, name: str) -> None:
    inputs = prompt(beside, name)
    loss = beside.train()(**inputs, **features(1), labels=inputs["input_ids"]).loss
    loss.backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in beside.projector.parameters())


def test_wrong_counts_and_sizes(beside: SefarBesideVision, name: str) -> None:
    inputs = prompt(beside, name)
    for call in (beside, beside.generate):
        with pytest.raises(PromptError, match="4 placeholders, but 2 clips need 8"):
            call(**inputs, **features(2))
        with pytest.raises(PromptError, match="4 placeholders, but 0 clips"):
            call(**inputs)
        with pytest.raises(FeatureMismatchError, match="takes"):
            call(**inputs, sefar_embedding=torch.zeros(1, 9), sefar_tokens=torch.zeros(1, 3, 4))


def test_prompt_is_expanded(beside: SefarBesideVision) -> None:
    ids = beside.tokenizer(beside.expanded("salto <sefar> forward"), add_special_tokens=False)["input_ids"]
    assert ids.count(beside.sefar_token_id) == 4


def test_saved_and_loaded(name: str, tmp_path: Path) -> None:
    beside = make(name)
    folder = beside.save(tmp_path / "projector", name="beside", encoder={"name": "fake", "version": "1"})
    torch.manual_seed(0)
    again = SefarBesideVision.load(folder, CLASSES[name][0]().eval(), tiny_tokenizer()).eval()
    inputs, clips = prompt(beside, name), features(1)
    assert torch.equal(beside(**inputs, **clips).logits, again(**inputs, **clips).logits)
    assert sorted(path.name for path in folder.iterdir()) == ["projector.safetensors", "sefar_adapter.json"]
    torch.manual_seed(7)
    with pytest.raises(AdapterMismatchError, match="a different embedding"):
        SefarBesideVision.load(folder, CLASSES[name][0](), tiny_tokenizer())
    (folder / "sefar_adapter.json").unlink()
    with pytest.raises(AdapterNotFoundError):
        SefarBesideVision.load(folder, CLASSES[name][0](), tiny_tokenizer())
