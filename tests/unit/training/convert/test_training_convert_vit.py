from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import timm
import torch
from hub_files import in_hub_cache
from onnx import helper, numpy_helper
from safetensors.torch import save_file
from timm.models import VisionTransformer

from sefar_training.checkpoint import load_checkpoint, read_info
from sefar_training.convert import ConversionError, convert
from sefar_training.convert.dinov2 import IN_A_LAYER, QKV, read_dinov2_onnx
from sefar_training.model import Architecture

VIT = "vit_tiny_patch16_224"


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


def test_pretrained_weights_come_through_timm_and_the_hub(
    vit: VisionTransformer, tmp_path: Path, hub_cache: Path
) -> None:
    tag = f"{VIT}.augreg_in21k_ft_in1k"
    with pytest.raises(ConversionError, match=rf"the weights of {tag} cannot be downloaded"):
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


def dinov2() -> VisionTransformer:
    """A narrow DINOv2 with random weights and layer scales that matter."""
    torch.manual_seed(0)
    narrow = {"img_size": 56, "embed_dim": 48, "depth": 2, "num_heads": 4}
    vit = timm.create_model("vit_small_patch14_dinov2", **narrow).eval()
    with torch.no_grad():
        for name, parameter in vit.named_parameters():
            parameter.add_(torch.randn_like(parameter) * (1.0 if "gamma" in name else 0.05))
    return vit


def test_layer_scale_is_folded_exactly(tmp_path: Path) -> None:
    vit = dinov2()
    save_file(vit.state_dict() | {"mask_token": torch.zeros(1, 48)}, tmp_path / "dino.safetensors")
    # The same architecture by name: the sizes come from the tensors, the number of heads from the name.
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("sefar_training.convert.image_vit._build", lambda name: vit)
        report = convert(tmp_path / "dino.safetensors", tmp_path / "out", architecture="vit_small_patch14_dinov2")
        smaller = convert(
            tmp_path / "dino.safetensors", tmp_path / "small", architecture="vit_small_patch14_dinov2", size=28
        )
    assert (report.model.size, report.model.sizes.patch, smaller.model.size) == (56, 14, 28)
    model = load_checkpoint(tmp_path / "out")[0]
    pictures = torch.randn(2, 3, 56, 56)
    with torch.inference_mode():
        unfolded = vit.forward_features(pictures)[:, 0]
        tokens = model.backbone(pictures.unsqueeze(1).repeat(1, 8, 1, 1, 1))
        plain = dinov2()
        for block in plain.blocks:
            block.ls1.gamma.fill_(1)
            block.ls2.gamma.fill_(1)
        without = plain.forward_features(pictures)[:, 0]
    difference = float((tokens - unfolded.unsqueeze(1)).abs().max())
    print("tokens with folded layer scale against timm:", difference)
    assert difference < 1e-4
    assert float((without - unfolded).abs().max()) > 0.1  # the scales matter
    # Temporal attention starts as a copy of the folded spatial one.
    for block in model.backbone.blocks:
        assert torch.equal(block.temporal_attn.proj.weight, block.attn.proj.weight)
    assert load_checkpoint(tmp_path / "small")[0].backbone.pos_embed.shape == (1, 5, 48)


def as_exported(vit: VisionTransformer) -> onnx.ModelProto:
    """A graph with the names that torch gives to transformers' DINOv2: biases by module, matrices by their node."""
    state = {name: value.numpy() for name, value in vit.state_dict().items()}
    tensors = {
        "backbone.embeddings.cls_token": state["cls_token"],
        "backbone.embeddings.patch_embeddings.projection.weight": state["patch_embed.proj.weight"],
        "backbone.embeddings.patch_embeddings.projection.bias": state["patch_embed.proj.bias"],
        "backbone.layernorm.weight": state["norm.weight"],
        "backbone.layernorm.bias": state["norm.bias"],
        "onnx::Concat_1": state["pos_embed"][:, :1],
        "onnx::Reshape_2": state["pos_embed"][:, 1:],
        "decoder.final_conv.weight": state["norm.bias"],
    }
    nodes = []
    for layer in range(len(vit.blocks)):
        ours, theirs = f"blocks.{layer}", f"backbone.encoder.layer.{layer}"
        modules = dict(IN_A_LAYER)
        for name in ("weight", "bias"):
            for module, part in zip(QKV, np.split(state.pop(f"{ours}.attn.qkv.{name}"), 3), strict=True):
                state[f"{ours}.{module}.{name}"] = part
                modules[f"attention.attention.{module}"] = module
        for number in (1, 2):
            tensors[f"{theirs}.layer_scale{number}.lambda1"] = state[f"{ours}.ls{number}.gamma"]
        for module, name in modules.items():
            tensors[f"{theirs}.{module}.bias"] = state[f"{ours}.{name}.bias"]
            weight = state[f"{ours}.{name}.weight"]
            if weight.ndim == 1:
                tensors[f"{theirs}.{module}.weight"] = weight
                continue
            matrix, path = f"onnx::MatMul_{len(nodes)}", f"/backbone/encoder/layer.{layer}/{module}"
            path = path.replace("layer.", "layer@").replace(".", "/").replace("layer@", "layer.")
            tensors[matrix] = weight.T.copy()
            nodes.append(helper.make_node("MatMul", ["x", matrix], [f"y{len(nodes)}"], name=f"{path}/MatMul"))
    initializers = [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in tensors.items()]
    return helper.make_model(helper.make_graph(nodes, "focus", [], [], initializers))


def test_dinov2_is_read_out_of_an_onnx_file(tmp_path: Path) -> None:
    vit = dinov2()
    model = as_exported(vit)
    onnx.save(model, tmp_path / "focus.onnx")
    state = read_dinov2_onnx(tmp_path / "focus.onnx")
    assert state.keys() == vit.state_dict().keys()
    assert all(torch.equal(state[name], value) for name, value in vit.state_dict().items())
    del model.graph.node[0]
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(ConversionError, match=r"other\.onnx holds no DINOv2 backbone: it has no tensor 'encoder"):
        convert(tmp_path / "other.onnx", tmp_path / "out", architecture="vit_small_patch14_dinov2")
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(ConversionError, match=r"text\.onnx is damaged or not an ONNX file"):
        convert(tmp_path / "text.onnx", tmp_path / "out", architecture="vit_small_patch14_dinov2")


@pytest.mark.parametrize(
    ("architecture", "changed", "why"),
    [
        (VIT, {"class_token": False, "global_pool": "avg"}, "has no class token"),
        (VIT, {"qkv_bias": False}, r"missing tensors: blocks\.0\.attn\.qkv\.bias"),
        (VIT, {"reg_tokens": 4}, "no position embedding for a class token and a square of patches"),
        (VIT, {"mlp_ratio": 2}, r"blocks\.0\.mlp\.fc1\.weight \(48, 24\) not \(96, 24\)"),
        ("vit_base_patch32_clip_quickgelu_224", {}, "has the activation"),
        ("resnet18", {}, "resnet18 is not a plain vision transformer but a ResNet"),
        ("vit_nano", {}, "timm has no model 'vit_nano'"),
        (f"{VIT}.made_up", {}, "timm cannot build"),
    ],
)
def test_vit_that_does_not_fit_is_refused_with_the_reason(tmp_path: Path, architecture: str, changed, why: str) -> None:
    sizes = {"img_size": 32, "patch_size": 16, "embed_dim": 24, "depth": 1, "num_heads": 3, "num_classes": 2}
    save_file(VisionTransformer(**{**sizes, **changed}).state_dict(), tmp_path / "vit.safetensors")
    with pytest.raises(ConversionError, match=why):
        convert(tmp_path / "vit.safetensors", tmp_path / "out", architecture=architecture)


def test_contradictory_options_are_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(1)}, tmp_path / "a.pth")
    with pytest.raises(ConversionError, match="does not say which ViT it is"):
        convert(tmp_path / "a.pth", tmp_path / "out", "timm")
    with pytest.raises(ConversionError, match="remove --num-heads"):
        convert(tmp_path / "a.pth", tmp_path / "out", architecture=VIT, num_heads=3)
    with pytest.raises(ConversionError, match=r"--architecture is for timm ViTs, but .* has the format sefar"):
        convert(tmp_path / "a.pth", tmp_path / "out", "sefar", architecture=VIT)
