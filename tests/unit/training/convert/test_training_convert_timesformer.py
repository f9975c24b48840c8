from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hub_files import in_hub_cache
from safetensors.torch import save_file
from torch import Tensor

from sefar_training.checkpoint import init_backbone, load_checkpoint
from sefar_training.convert import ConversionError, convert
from sefar_training.convert.timesformer import REQUIRED, TIME, timesformer_name
from sefar_training.model import SefarModel, create_model

TIMESFORMER_NAMES = [
    "classifier.bias",
    "classifier.weight",
    "timesformer.embeddings.cls_token",
    "timesformer.embeddings.patch_embeddings.projection.bias",
    "timesformer.embeddings.patch_embeddings.projection.weight",
    "timesformer.embeddings.position_embeddings",
    "timesformer.embeddings.time_embeddings",
    "timesformer.layernorm.bias",
    "timesformer.layernorm.weight",
]
TIMESFORMER_LAYER_NAMES = [
    f"timesformer.encoder.layer.0.{module}.{parameter}"
    for module in (
        "attention.attention.qkv",
        "attention.output.dense",
        "intermediate.dense",
        "layernorm_after",
        "layernorm_before",
        "output.dense",
        "temporal_attention.attention.qkv",
        "temporal_attention.output.dense",
        "temporal_dense",
        "temporal_layernorm",
    )
    for parameter in ("bias", "weight")
]


def save_timesformer(folder: Path, model: SefarModel, frames: int, **config: Any) -> dict[str, Tensor]:
    """Write a backbone of ours the way transformers writes a TimeSformer for videos of so many frames."""
    backbone = {f"backbone.{name}": value for name, value in model.backbone.state_dict().items()}
    state = {f"timesformer.{theirs}": value for name, value in backbone.items() if (theirs := timesformer_name(name))}
    state[f"timesformer.{TIME}"] = torch.randn(1, frames, model.backbone.dim)
    state |= {"classifier.weight": torch.zeros(9, model.backbone.dim), "classifier.bias": torch.zeros(9)}
    folder.mkdir()
    save_file(state, folder / "model.safetensors")
    described = {"model_type": "timesformer", "num_attention_heads": 3, **REQUIRED, **config}
    (folder / "config.json").write_text(json.dumps(described))
    return state


def test_timesformer_folder_is_converted_completely(small_model: Callable[..., SefarModel], tmp_path: Path) -> None:
    model = small_model((4, 4), depth=1)
    state = save_timesformer(tmp_path / "hf", model, frames=4)
    assert sorted(state) == sorted(TIMESFORMER_NAMES + TIMESFORMER_LAYER_NAMES)
    (tmp_path / "hf" / "preprocessor_config.json").write_text('{"image_mean": [0.1, 0.2, 0.3]}')
    report = convert(tmp_path / "hf", tmp_path / "out", sample_frames=(2, 4))
    assert (report.classes, report.carried, report.derived, report.new) == (9, 26, 2, 14)
    assert (report.model.mean, report.model.std) == ((0.1, 0.2, 0.3), (0.225, 0.225, 0.225))
    converted = load_checkpoint(tmp_path / "out")[0].backbone
    theirs = state[f"timesformer.{TIME}"]
    assert torch.equal(converted.time_embed[0], theirs[:, [0, 2]])
    assert torch.equal(converted.time_embed[1], theirs)
    with torch.no_grad():
        for embedding in model.backbone.time_embed:
            embedding.copy_(theirs)
        frames = torch.randn(2, 4, 3, 32, 32)
        expected = model.backbone(frames.repeat(1, 2, 1, 1, 1))[:, 1]
        token = converted(torch.cat([frames[:, :2], frames], dim=1))[:, 1]
    assert torch.allclose(token, expected, atol=1e-5)
    started = create_model("tiny", 3, (2, 4), size=32, architecture=report.model.architecture)
    init_backbone(started, tmp_path / "out")
    assert torch.equal(started.backbone.pos_embed, model.backbone.pos_embed)


def test_timesformer_from_the_hub(small_model: Callable[..., SefarModel], tmp_path: Path, hub_cache: Path) -> None:
    with pytest.raises(ConversionError, match="own/timesformer is not a local folder, and cannot be downloaded"):
        convert("own/timesformer", tmp_path / "out")
    save_timesformer(tmp_path / "hf", small_model(), frames=8)
    in_hub_cache(hub_cache, "own/timesformer", {file.name: file.read_bytes() for file in (tmp_path / "hf").iterdir()})
    assert convert("own/timesformer", tmp_path / "out").carried == 46


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"attention_type": "space_only"}, "attention_type 'space_only'; SeFAR needs 'divided_space_time'"),
        ({"layer_norm_eps": 1e-12}, "layer_norm_eps 1e-12"),
        ({"hidden_act": "relu"}, "hidden_act 'relu'"),
        ({"model_type": "vivit"}, "is neither a TimeSformer"),
        ({"num_attention_heads": 5}, "width 24 is not a multiple of the number of heads 5"),
    ],
)
def test_timesformer_that_computes_something_else_is_refused(
    small_model: Callable[..., SefarModel], tmp_path: Path, config: dict[str, Any], why: str
) -> None:
    save_timesformer(tmp_path / "hf", small_model(), frames=8, **config)
    with pytest.raises(ConversionError, match=why):
        convert(tmp_path / "hf", tmp_path / "out")


def test_timesformer_folder_without_weights(small_model: Callable[..., SefarModel], tmp_path: Path) -> None:
    save_timesformer(tmp_path / "hf", small_model(), frames=8)
    (tmp_path / "hf" / "model.safetensors").unlink()
    with pytest.raises(ConversionError, match=r"has no weights: neither model\.safetensors nor pytorch_model\.bin"):
        convert(tmp_path / "hf", tmp_path / "out")
    (tmp_path / "hf" / "config.json").unlink()
    with pytest.raises(ConversionError, match=r"has no config\.json, so its format cannot be detected"):
        convert(tmp_path / "hf", tmp_path / "out")


def test_class_token_equals_that_of_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 192}
    config = transformers.TimesformerConfig(image_size=32, patch_size=8, num_frames=8, num_labels=11, **sizes)
    torch.manual_seed(0)
    theirs = transformers.TimesformerForVideoClassification(config).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    theirs.save_pretrained(tmp_path / "hf")
    report = convert(tmp_path / "hf", tmp_path / "out", sample_frames=(8, 4, 8))
    assert report.classes == 11
    converted = load_checkpoint(tmp_path / "out")[0].backbone
    frames = torch.randn(2, 20, 3, 32, 32)
    with torch.inference_mode():
        tokens = converted(frames)
        for element, start in ((0, 0), (2, 12)):
            token = theirs.timesformer(frames[:, start : start + 8]).last_hidden_state[:, 0]
            difference = float((tokens[:, element] - token).abs().max())
            print(f"element {element} against transformers:", difference)
            assert difference < 1e-4
        theirs.config.num_frames = 4  # the number its layers count with; its time embedding is resampled
        token = theirs.timesformer(frames[:, 8:12]).last_hidden_state[:, 0]
        assert (tokens[:, 1] - token).abs().max() < 1e-4
