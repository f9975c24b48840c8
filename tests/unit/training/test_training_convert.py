from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models import VisionTransformer
from torch import Tensor
from typer.testing import CliRunner

from sefar_serve.cli import app
from sefar_serve.metadata import ModelMetadata
from sefar_training.checkpoint import init_backbone, load_checkpoint, read_info
from sefar_training.config import ModelConfig
from sefar_training.convert import ConversionError, NamesError, convert, release_name
from sefar_training.convert.convert import detect
from sefar_training.convert.release import describe_release
from sefar_training.convert.timesformer import REQUIRED, TIME, timesformer_name
from sefar_training.export import export_checkpoint
from sefar_training.model import Architecture, FrameNormalizer, SefarModel, create_model

OUTPUTS = ("tokens", "embedding", "logits")
VIT = "vit_tiny_patch16_224"
SHA = "0" * 40


def released(model: SefarModel) -> dict[str, Tensor]:
    """A model's weights as the authors' release names them."""
    return {release_name(name): value for name, value in model.state_dict().items()}


def save_release(file: Path, state: Mapping[str, Any], cfg: Any = "{}", **more: Any) -> Path:
    torch.save({"epoch": 29, "model_state": dict(state), "optimizer_state": {}, "cfg": cfg, **more}, file)
    return file


def equal_weights(folder: Path, model: SefarModel) -> bool:
    loaded = load_checkpoint(folder)[0].state_dict()
    wanted = model.state_dict()
    return loaded.keys() == wanted.keys() and all(torch.equal(loaded[name], value) for name, value in wanted.items())


# --- The authors' release ---


@pytest.fixture(scope="session")
def converted_tiny(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("converted") / "tiny"
    report = convert(shared_data / "official" / "tiny_2_2_4.pyth", out, num_heads=3)
    assert (report.carried, report.derived, report.new) == (63, 0, 0)
    return out


def test_converted_release_computes_what_the_release_computes(shared_data: Path, converted_tiny: Path) -> None:
    expected = np.load(shared_data / "official" / "tiny_2_2_4.npz")
    model, info = load_checkpoint(converted_tiny)
    assert info.model.sample_frames == (2, 2, 4)
    assert info.labels == tuple(f"class_{k}" for k in range(7))
    with torch.inference_mode():
        out = model(FrameNormalizer(info.model.mean, info.model.std)(torch.from_numpy(expected["frames"])))
    differences = {name: float(np.abs(getattr(out, name).numpy() - expected[name]).max()) for name in OUTPUTS}
    print("torch against the release:", differences)
    assert max(differences.values()) < 1e-4


def test_exported_release_computes_what_the_release_computes(
    shared_data: Path, converted_tiny: Path, tmp_path: Path
) -> None:
    expected = np.load(shared_data / "official" / "tiny_2_2_4.npz")
    file = export_checkpoint(converted_tiny, tmp_path / "model.onnx").path
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    props = session.get_modelmeta().custom_metadata_map
    assert ModelMetadata.from_props(props, "model.onnx").name == "sefar-unnamed-48x2"
    values = session.run(list(OUTPUTS), {"frames": expected["frames"]})
    differences = {
        name: float(np.abs(value - expected[name]).max()) for name, value in zip(OUTPUTS, values, strict=True)
    }
    print("ONNX against the release:", differences)
    assert max(differences.values()) < 1e-4


def test_every_name_of_the_released_small_model_maps(shared_data: Path) -> None:
    shapes = json.loads((shared_data / "official" / "state_dict_small.json").read_text())
    state = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    source = describe_release(state, "small", {})
    assert source.architecture == Architecture(patch=16, dim=384, depth=12, heads=6)
    assert (source.classes, source.sample_frames, source.size) == (99, (2, 2, 4), 224)
    carried = source.carry(create_model("small", 99).state_dict())
    assert {release_name(name) for name in carried} == shapes.keys()


@pytest.mark.parametrize("sample_frames", [(2, 2, 4), (2, 2, 2, 4), (3, 5)])
def test_any_elements_convert(small_model: Callable[..., SefarModel], tmp_path: Path, sample_frames) -> None:
    model = small_model(sample_frames)
    file = save_release(tmp_path / "a.pyth", released(model))
    report = convert(file, tmp_path / "out", num_heads=3, sample_frames=sample_frames)
    assert report.model.sample_frames == sample_frames
    assert (report.classes, report.model.size) == (5, 32)
    assert equal_weights(tmp_path / "out", model)
    assert f"5 classes, {len(sample_frames)} elements" in str(report)
    with pytest.raises(ConversionError, match=r"has sample_frames .* not \(1, 1\)"):
        convert(file, tmp_path / "out", num_heads=3, sample_frames=(1, 1))


def test_what_trainers_leave_in_their_files_is_no_hindrance(
    small_model: Callable[..., SefarModel], tmp_path: Path
) -> None:
    model = small_model()
    cfg = (
        "TRAIN: {CHECKPOINT_CLEAR_NAME_PATTERN: !!python/tuple []}\n"
        "TIMESFORMER: {NUM_HEADS: 3}\n"
        "DATA: {MEAN: [0.4, 0.5, 0.6], STD: [0.1, 0.2, 0.3]}\n"
    )
    state = {f"module.{name}": value for name, value in released(model).items()}
    file = save_release(tmp_path / "a.pyth", state, cfg, scale=np.float64(0.005), step=np.int64(3))
    info = convert(file, tmp_path / "out").model
    assert (info.mean, info.std) == ((0.4, 0.5, 0.6), (0.1, 0.2, 0.3))
    assert info.sizes.heads == 3
    assert equal_weights(tmp_path / "out", model)


def test_sizes_with_a_name_are_called_by_it(tmp_path: Path) -> None:
    sizes = Architecture(patch=16, dim=384, depth=12, heads=6)
    state = released(create_model("small", 3, (1, 1), size=32))
    convert(save_release(tmp_path / "a.pyth", state), tmp_path / "out")
    config = read_info(tmp_path / "out").model
    assert (config.variant, config.architecture) == ("small", None)
    assert (config.sizes.dim, config.sizes.heads) == (sizes.dim, sizes.heads)


def test_open_number_of_heads_is_asked_for(small_model: Callable[..., SefarModel], tmp_path: Path) -> None:
    file = save_release(tmp_path / "a.pyth", released(small_model()))
    with pytest.raises(ConversionError, match=r"width 24, which is no multiple of 64.*--num-heads"):
        convert(file, tmp_path / "out")
    with pytest.raises(ConversionError, match="width 24 is not a multiple of the number of heads 5"):
        convert(file, tmp_path / "out", num_heads=5)
    assert not (tmp_path / "out").exists()


def test_leftover_missing_and_reshaped_tensors_are_named(
    small_model: Callable[..., SefarModel], tmp_path: Path
) -> None:
    state = released(small_model())
    state["aux.weight"] = torch.zeros(2)
    state["vit.model.head.bias"] = torch.zeros(2)
    del state["ln2.bias"]
    state["vit.model.blocks.1.mlp.fc1.weight"] = torch.zeros(48, 24)
    with pytest.raises(NamesError) as caught:
        convert(save_release(tmp_path / "a.pyth", state), tmp_path / "out", num_heads=3)
    assert caught.value.leftover == ["aux.weight", "vit.model.head.bias"]
    assert caught.value.missing == ["ln2.bias"]
    assert caught.value.reshaped == ["vit.model.blocks.1.mlp.fc1.weight"]
    for told in ("aux.weight", "ln2.bias", "vit.model.blocks.1.mlp.fc1.weight (48, 24) not (96, 24)"):
        assert told in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_gap_in_layers_or_elements_is_named(small_model: Callable[..., SefarModel], tmp_path: Path) -> None:
    state = released(small_model(depth=3))
    gap = {name: value for name, value in state.items() if "blocks.1." not in name}
    with pytest.raises(NamesError, match=r"no place in our model for: vit\.model\.blocks\.2\."):
        convert(save_release(tmp_path / "a.pyth", gap), tmp_path / "out", num_heads=3)
    del state["vit.model.time_embed.1"]
    with pytest.raises(ConversionError, match="two or more temporal elements"):
        convert(save_release(tmp_path / "a.pyth", state), tmp_path / "out", num_heads=3)


# --- Files that are not what they should be ---


class Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path(self.mark),))

    def __init__(self, mark: Path) -> None:
        self.mark = str(mark)


def test_code_in_a_file_is_not_run(small_model: Callable[..., SefarModel], tmp_path: Path) -> None:
    file = save_release(tmp_path / "a.pyth", released(small_model()), cfg=Code(tmp_path / "ran"))
    with pytest.raises(ConversionError, match=r"a\.pyth holds code .* was not opened"):
        convert(file, tmp_path / "out", num_heads=3)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kept", [0.0, 0.001, 0.02, 0.5, 0.99])
def test_truncated_file_is_named(
    small_model: Callable[..., SefarModel], tmp_path: Path, kept: float, zipped: bool
) -> None:
    file = tmp_path / "a.pyth"
    torch.save({"model_state": released(small_model())}, file, _use_new_zipfile_serialization=zipped)
    whole = file.read_bytes()
    convert(file, tmp_path / "out", num_heads=3)
    file.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(ConversionError, match=r"a\.pyth is (damaged|no checkpoint)"):
        convert(file, tmp_path / "again", num_heads=3)
    assert not (tmp_path / "again").exists()


def test_other_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "text.pyth").write_text("epoch: 29")
    with pytest.raises(ConversionError, match=r"text\.pyth is no checkpoint: neither torch\.save nor safetensors"):
        convert(tmp_path / "text.pyth", tmp_path / "out")
    torch.save([1, 2], tmp_path / "list.pyth")
    with pytest.raises(ConversionError, match="maps no names to tensors at the top or under model_state"):
        convert(tmp_path / "list.pyth", tmp_path / "out")
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pyth")
    with pytest.raises(ConversionError, match=r"no tensor's name begins with vit\.model\."):
        convert(tmp_path / "other.pyth", tmp_path / "out")
    (tmp_path / "bad.safetensors").write_bytes(b"not weights")
    with pytest.raises(ConversionError, match=r"bad\.safetensors is damaged or no safetensors file"):
        convert(tmp_path / "bad.safetensors", tmp_path / "out")
    with pytest.raises(ConversionError, match=r"there is no file .*gone\.pyth"):
        convert(tmp_path / "gone.pyth", tmp_path / "out", "sefar")
    with pytest.raises(ConversionError, match=r"is no file or folder, no name timm knows and no id"):
        convert("nowhere", tmp_path / "out")
    with pytest.raises(ConversionError, match="no format 'keras'; there are sefar, timm, timesformer"):
        convert(tmp_path / "list.pyth", tmp_path / "out", "keras")  # type: ignore[arg-type]


def test_only_a_checkpoint_is_replaced(small_model: Callable[..., SefarModel], tmp_path: Path) -> None:
    file = save_release(tmp_path / "a.pyth", released(small_model()))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    for out in (tmp_path / "mine", tmp_path, file):
        with pytest.raises(ConversionError, match="is there already and is no checkpoint"):
            convert(file, out, num_heads=3)
    (tmp_path / "out").mkdir()
    for _ in range(2):
        convert(file, tmp_path / "out", num_heads=3)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["config.json", "model.safetensors"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pyth", "mine", "out"]
    with pytest.raises(ConversionError, match="is a checkpoint of this project already"):
        detect(str(tmp_path / "out"))


# --- Image ViTs ---


@pytest.fixture(scope="module")
def vit() -> VisionTransformer:
    torch.manual_seed(0)
    vit = timm.create_model(VIT).eval()
    with torch.no_grad():  # so that no tensor is a constant that another could be mistaken for
        for parameter in vit.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    return vit


def test_backbone_starts_as_the_image_model(vit: VisionTransformer, tmp_path: Path) -> None:
    save_file(vit.state_dict(), tmp_path / "vit.safetensors")
    report = convert(tmp_path / "vit.safetensors", tmp_path / "out", architecture=VIT, sample_frames=(1, 2, 4))
    model, info = load_checkpoint(tmp_path / "out")
    assert info.model.architecture == Architecture(patch=16, dim=192, depth=12, heads=3)
    assert info.model.mean == (0.5, 0.5, 0.5)
    assert report.classes == 1000
    assert report.carried == len(vit.state_dict()) - 2
    assert report.derived == 12 * 8 + 3
    assert report.new == 14
    pictures = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        expected = vit.forward_features(pictures)[:, 0]
        tokens = model.backbone(pictures.unsqueeze(1).repeat(1, 7, 1, 1, 1))
    difference = float((tokens - expected.unsqueeze(1)).abs().max())
    print("tokens of a still picture against timm:", difference)
    assert difference < 1e-4
    for block in model.backbone.blocks:
        assert not block.temporal_fc.weight.any()
        assert not block.temporal_fc.bias.any()
        assert torch.equal(block.temporal_attn.qkv.weight, block.attn.qkv.weight)
        assert torch.equal(block.temporal_norm1.bias, block.norm1.bias)


def test_the_same_source_gives_the_same_checkpoint_and_draws_nothing(vit: VisionTransformer, tmp_path: Path) -> None:
    torch.save({"state_dict": vit.state_dict()}, tmp_path / "vit.pth")
    before = torch.get_rng_state()
    for name in ("first", "second"):
        convert(tmp_path / "vit.pth", tmp_path / name, architecture=VIT)
    assert torch.equal(before, torch.get_rng_state())
    files = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("first", "second")]
    assert files[0] == files[1]


def test_positions_are_interpolated_to_another_size(vit: VisionTransformer, tmp_path: Path) -> None:
    torch.save(vit.state_dict(), tmp_path / "vit.pth")
    labels = tmp_path / "labels.txt"
    labels.write_text("jump\nturn\n")
    report = convert(tmp_path / "vit.pth", tmp_path / "out", architecture=VIT, size=96, labels=labels, name="own")
    assert (report.model.size, report.model.resize, report.classes) == (96, 110, 2)
    assert read_info(tmp_path / "out").labels == ("jump", "turn")
    positions = load_checkpoint(tmp_path / "out")[0].backbone.pos_embed
    assert positions.shape == (1, 37, 192)
    assert torch.equal(positions[:, 0], vit.pos_embed[:, 0])
    with pytest.raises(ConversionError, match="size 100 is not a multiple of the patch size 16"):
        convert(tmp_path / "vit.pth", tmp_path / "out", architecture=VIT, size=100)


def in_hub_cache(cache: Path, name: str, files: Mapping[str, bytes]) -> None:
    """Lay files out as the hub's client keeps what it fetched."""
    model = cache / f"models--{name.replace('/', '--')}"
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text(SHA)
    for file, content in files.items():
        path = model / "snapshots" / SHA / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's client without a network: what is not in this folder cannot be had."""
    cache = tmp_path / "hub"
    cache.mkdir()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return cache


def test_pretrained_weights_come_through_timm_and_the_hub(
    vit: VisionTransformer, tmp_path: Path, hub_cache: Path
) -> None:
    tag = f"{VIT}.augreg_in21k_ft_in1k"
    with pytest.raises(ConversionError, match=rf"the weights of {tag} cannot be fetched"):
        convert(tag, tmp_path / "out")
    save_file(vit.state_dict(), tmp_path / "vit.safetensors")
    in_hub_cache(hub_cache, f"timm/{tag}", {"model.safetensors": (tmp_path / "vit.safetensors").read_bytes()})
    convert(tag, tmp_path / "out")
    assert torch.equal(load_checkpoint(tmp_path / "out")[0].backbone.norm.weight, vit.norm.weight)


def test_folder_as_timm_publishes_it(vit: VisionTransformer, tmp_path: Path) -> None:
    folder = tmp_path / "vit"
    folder.mkdir()
    save_file(vit.state_dict(), folder / "model.safetensors")
    said = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    (folder / "config.json").write_text(json.dumps({"architecture": VIT, "pretrained_cfg": said}))
    assert convert(folder, tmp_path / "out").model.mean == (0.1, 0.2, 0.3)


@pytest.mark.parametrize(
    ("architecture", "changed", "why"),
    [
        (VIT, {"class_token": False, "global_pool": "avg"}, "has no class token"),
        (VIT, {"init_values": 1e-5}, r"no place in our model for: blocks\.0\.ls1\.gamma"),
        (VIT, {"qkv_bias": False}, r"missing: blocks\.0\.attn\.qkv\.bias"),
        (VIT, {"reg_tokens": 4}, "no position embedding of a class token and a square of patches"),
        (VIT, {"mlp_ratio": 2}, r"blocks\.0\.mlp\.fc1\.weight \(48, 24\) not \(96, 24\)"),
        ("vit_base_patch32_clip_quickgelu_224", {}, "has another activation"),
        ("resnet18", {}, "resnet18 is no plain vision transformer, but a ResNet"),
        ("vit_nano", {}, "timm knows no model 'vit_nano'"),
        (f"{VIT}.made_up", {}, "timm cannot build"),
    ],
)
def test_unfit_vit_is_refused_with_the_reason(tmp_path: Path, architecture: str, changed, why: str) -> None:
    sizes = {"img_size": 32, "patch_size": 16, "embed_dim": 24, "depth": 1, "num_heads": 3, "num_classes": 2}
    save_file(VisionTransformer(**{**sizes, **changed}).state_dict(), tmp_path / "vit.safetensors")
    with pytest.raises(ConversionError, match=why):
        convert(tmp_path / "vit.safetensors", tmp_path / "out", architecture=architecture)


def test_options_that_make_no_sense_are_told(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(1)}, tmp_path / "a.pth")
    with pytest.raises(ConversionError, match="does not say which ViT it holds"):
        convert(tmp_path / "a.pth", tmp_path / "out", "timm")
    with pytest.raises(ConversionError, match="leave --num-heads out"):
        convert(tmp_path / "a.pth", tmp_path / "out", architecture=VIT, num_heads=3)
    with pytest.raises(ConversionError, match=r"--architecture names a ViT of timm, but .* taken for sefar"):
        convert(tmp_path / "a.pth", tmp_path / "out", "sefar", architecture=VIT)


# --- TimeSformer of transformers ---

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


def test_timesformer_folder_is_carried_over_whole(small_model: Callable[..., SefarModel], tmp_path: Path) -> None:
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
    with pytest.raises(ConversionError, match="own/timesformer is no folder here, and cannot be fetched"):
        convert("own/timesformer", tmp_path / "out")
    save_timesformer(tmp_path / "hf", small_model(), frames=8)
    in_hub_cache(hub_cache, "own/timesformer", {file.name: file.read_bytes() for file in (tmp_path / "hf").iterdir()})
    assert convert("own/timesformer", tmp_path / "out").carried == 46


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"attention_type": "space_only"}, "attention_type 'space_only'; our backbone has 'divided_space_time'"),
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
    with pytest.raises(ConversionError, match=r"holds no weights: neither model\.safetensors nor pytorch_model\.bin"):
        convert(tmp_path / "hf", tmp_path / "out")
    (tmp_path / "hf" / "config.json").unlink()
    with pytest.raises(ConversionError, match=r"holds no config\.json that would tell what it is"):
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


# --- The command, and sizes without a name ---


def test_command_prints_one_line(small_model: Callable[..., SefarModel], tmp_path: Path) -> None:
    file = save_release(tmp_path / "a.pyth", released(small_model((2, 2, 2, 4))))
    labels = tmp_path / "labels.txt"
    labels.write_text("a\nb\nc\nd\ne\n")
    options = ["--out", str(tmp_path / "out"), "--num-heads", "3", "--labels", str(labels), "--name", "gym99"]
    done = CliRunner().invoke(app, ["convert", str(file), *options, "--sample-frames", "2,2,2,4"])
    assert done.exit_code == 0, done.output
    told = "5 classes, 4 elements (2, 2, 2, 4), 32 pixels; 64 tensors converted"
    assert done.output == f"{tmp_path / 'out'}: {told}, from {file}\n"
    info = read_info(tmp_path / "out")
    assert (info.labels, info.dataset) == (("a", "b", "c", "d", "e"), "gym99")
    labels.write_text("a\nb\n")
    with pytest.raises(ConversionError, match=r"labels\.txt names 2 classes, but .*a\.pyth has 5"):
        convert(file, tmp_path / "out", num_heads=3, labels=labels)
    done = CliRunner().invoke(app, ["convert", str(file), *options, "--sample-frames", "2+2"])
    assert done.exit_code == 2
    assert "numbers separated by commas" in done.output


def test_sizes_without_a_name() -> None:
    config = ModelConfig(architecture=Architecture(patch=8, dim=48, depth=2, heads=3), size=40, resize=48)
    assert config.sizes_name == "48x2"
    assert ModelConfig.model_validate_json(config.model_dump_json()) == config
    model = create_model(config.variant, 2, size=config.size, architecture=config.architecture)
    assert model.backbone.pos_embed.shape == (1, 26, 48)
    assert ModelConfig().sizes_name == "tiny"
    with pytest.raises(ValueError, match="size 64 is not a multiple of the patch size 12"):
        ModelConfig(architecture=Architecture(patch=12, dim=48, depth=2, heads=3))
    with pytest.raises(ValueError, match="width 48 is not a multiple of the number of heads 5"):
        Architecture(patch=8, dim=48, depth=2, heads=5)
