"""Model repositories: configurations that Triton parses and that cannot go stale, and atomic publishing."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import text_format
from redescribed_model import write_redescribed
from tritonclient.grpc import model_config_pb2 as pb

from sefar_serve.engine import FAKE_METADATA, ModelLoadError
from sefar_serve.engine.onnx import OnnxModel
from sefar_serve.engine.triton.served import described
from sefar_serve.metadata import ModelMetadata
from sefar_serve.settings import shipped_model
from sefar_serve.triton_server.config import FLAVOURS, Flavour, config_text, model_config
from sefar_serve.triton_server.repository import PYTHON_MODEL, RepositoryError, config_file, publish, versions


def parsed(text: str) -> pb.ModelConfig:
    return text_format.Parse(text, pb.ModelConfig())


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_configuration_matches_the_model_s_metadata(flavour: Flavour) -> None:
    config = parsed(config_text(model_config(FAKE_METADATA, "fake", flavour)))
    assert described(config, required=True) == FAKE_METADATA
    assert [(t.name, list(t.dims)) for t in config.output] == [
        ("logits", [3]),
        ("embedding", [8]),
        ("tokens", [3, 4]),
        ("mc_logits", [10, 3]),
    ]
    assert (config.input[0].name, list(config.input[0].dims)) == ("frames", [8, 32, 32, 3])
    assert config.backend == ("python" if flavour == "python" else "onnxruntime")
    on_gpu = flavour in ("cuda", "tensorrt")
    assert (config.instance_group[0].kind == pb.ModelInstanceGroup.KIND_GPU) == on_gpu
    assert max(config.dynamic_batching.preferred_batch_size) == config.max_batch_size
    assert {warm_up.batch_size for warm_up in config.model_warmup} == {1, config.max_batch_size}
    accelerators = config.optimization.execution_accelerators.gpu_execution_accelerator
    assert [a.name for a in accelerators] == (["tensorrt"] if flavour == "tensorrt" else [])


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_the_committed_repository_matches_its_model(flavour: Flavour) -> None:
    folder = shipped_model().parent.parent
    metadata = OnnxModel(shipped_model(), device="cpu").metadata
    text = config_file(folder, flavour).read_text(encoding="utf-8")
    assert text == config_text(model_config(metadata, folder.name, flavour)), "run: sefar triton publish"
    assert (folder / metadata.version / "model.py").read_bytes() == PYTHON_MODEL.read_bytes()


def test_versions_are_added_next_to_each_other(untrained_model: Path, tmp_path: Path) -> None:
    put = publish(untrained_model, tmp_path / "models")
    assert str(put) == f"{tmp_path}/models/sefar_encoder/1: untrained, version 1"
    write_redescribed(untrained_model, tmp_path / "b.onnx", version="12")
    publish(tmp_path / "b.onnx", tmp_path / "models")
    folder = tmp_path / "models" / "sefar_encoder"
    assert versions(tmp_path / "models") == [1, 12]
    assert {file.name for file in (folder / "12").iterdir()} == {"model.onnx", "model.py"}
    assert {entry.name for entry in folder.iterdir()} == {"1", "12", "config.pbtxt", "configs"}
    with pytest.raises(RepositoryError, match="12 exists already; export the model with --version 13"):
        publish(tmp_path / "b.onnx", tmp_path / "models")


def test_an_invalid_version_is_refused_and_changes_nothing(untrained_model: Path, tmp_path: Path) -> None:
    repository = tmp_path / "models"
    publish(untrained_model, repository)
    before = {file: file.read_bytes() for file in repository.rglob("*") if file.is_file()}
    write_redescribed(untrained_model, tmp_path / "labels.onnx", version="2", labels=["a", "b", "c", "e"])
    write_redescribed(untrained_model, tmp_path / "named.onnx", version="v2")
    (tmp_path / "junk.onnx").write_bytes(b"junk")
    with pytest.raises(RepositoryError, match=r"differs .* in labels; .*another --triton-name"):
        publish(tmp_path / "labels.onnx", repository)
    with pytest.raises(RepositoryError, match=r"version 'v2', but .* --version 1"):
        publish(tmp_path / "named.onnx", repository)
    with pytest.raises(ModelLoadError, match="cannot be loaded"):
        publish(tmp_path / "junk.onnx", repository)
    with pytest.raises(RepositoryError, match="is not a valid model name"):
        publish(untrained_model, repository, "../x")
    assert {file: file.read_bytes() for file in repository.rglob("*") if file.is_file()} == before


def test_models_without_sefar_metadata_are_skipped_unless_requested() -> None:
    config = pb.ModelConfig(name="resnet")
    assert described(config, required=False) is None
    with pytest.raises(ModelLoadError, match=r"the Triton model 'resnet' has no sefar\.\* metadata"):
        described(config, required=True)


def test_error_names_tensors_that_contradict_the_description() -> None:
    config = model_config(FAKE_METADATA, "fake", "cpu")
    config.output[0].dims[0] = 99
    with pytest.raises(
        ModelLoadError, match=r"'logits' is TYPE_FP32 \(99,\), but its description says TYPE_FP32 \(3,\)"
    ):
        described(config, required=True)
    del config.input[:]
    config.output[0].dims[0] = 3
    with pytest.raises(ModelLoadError, match="'frames' is missing"):
        described(config, required=True)


def test_metadata_survives_the_configuration(untrained_model: Path) -> None:
    metadata: ModelMetadata = OnnxModel(untrained_model, device="cpu").metadata
    told = described(model_config(metadata, "x", "cuda"), required=True)
    assert told == metadata.model_copy(update={"version": "0"})
