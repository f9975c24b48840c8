from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from release_files import equal_weights, released, save_release
from typer.testing import CliRunner

from sefar_serve.cli import app
from sefar_serve.metadata import ModelMetadata
from sefar_training.checkpoint import load_checkpoint, read_info
from sefar_training.convert import ConversionError, NamesError, convert, release_name
from sefar_training.convert.release import describe_release
from sefar_training.export import export_checkpoint
from sefar_training.model import Architecture, FrameNormalizer, SefarModel, create_model

OUTPUTS = ("tokens", "embedding", "logits")


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


def test_extra_content_of_checkpoint_files_is_ignored(small_model: Callable[..., SefarModel], tmp_path: Path) -> None:
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


def test_unknown_number_of_heads_is_an_error(small_model: Callable[..., SefarModel], tmp_path: Path) -> None:
    file = save_release(tmp_path / "a.pyth", released(small_model()))
    with pytest.raises(ConversionError, match=r"width 24, which is not a multiple of 64.*--num-heads"):
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
    with pytest.raises(NamesError, match=r"unknown tensors: vit\.model\.blocks\.2\."):
        convert(save_release(tmp_path / "a.pyth", gap), tmp_path / "out", num_heads=3)
    del state["vit.model.time_embed.1"]
    with pytest.raises(ConversionError, match="two or more temporal elements"):
        convert(save_release(tmp_path / "a.pyth", state), tmp_path / "out", num_heads=3)


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
    with pytest.raises(ConversionError, match=r"labels\.txt has 2 class names, but .*a\.pyth has 5 classes"):
        convert(file, tmp_path / "out", num_heads=3, labels=labels)
    done = CliRunner().invoke(app, ["convert", str(file), *options, "--sample-frames", "2+2"])
    assert done.exit_code == 2
    assert "numbers separated by commas" in done.output
