from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from sefar_serve.metadata import ModelMetadata
from sefar_training import export
from sefar_training.checkpoint import CheckpointInfo, save_checkpoint
from sefar_training.config import ModelConfig
from sefar_training.data import ClassTable
from sefar_training.evaluation import onnx_predictor, score
from sefar_training.model import (
    EMBEDDING_DIM,
    FrameNormalizer,
    FusionHead,
    SefarModel,
    TimeSformer,
    create_model,
    create_stem,
)

LABELS = ("salto forward", "salto backward", "leap")


@pytest.fixture(scope="module")
def model() -> SefarModel:
    torch.manual_seed(0)
    built = create_model("tiny", len(LABELS), (1, 2, 3))
    for block in built.backbone.blocks:
        torch.nn.init.normal_(block.temporal_fc.weight, std=0.1)
        torch.nn.init.normal_(block.temporal_attn.proj.bias, std=0.1)
    for module in built.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
    return built


@pytest.fixture(scope="module")
def exported(model: SefarModel, tmp_path_factory: pytest.TempPathFactory) -> export.ExportReport:
    folder = tmp_path_factory.mktemp("export")
    info = CheckpointInfo(
        model=ModelConfig(sample_frames=(1, 2, 3), mean=(0.4, 0.5, 0.6)),
        dataset="made up",
        labels=LABELS,
        attributes=({"direction": "forward"}, {"direction": "backward"}, {"twists": 1.5}),
        opposites=(1, 0, None),
    )
    save_checkpoint(folder / "final", model, info)
    return export.export_checkpoint(folder / "final", folder / "1" / "model.onnx", name="test", version="7")


@pytest.fixture(scope="module")
def session(exported: export.ExportReport) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(exported.path, providers=["CPUExecutionProvider"])


def frames(batch: int) -> np.ndarray:
    return np.random.default_rng(batch).integers(0, 256, (batch, 6, 64, 64, 3), dtype=np.uint8)


def test_inputs_and_outputs(session: onnxruntime.InferenceSession) -> None:
    (given,) = session.get_inputs()
    assert (given.name, given.type, given.shape[1:]) == ("frames", "tensor(uint8)", [6, 64, 64, 3])
    assert isinstance(given.shape[0], str)
    outputs = {o.name: (o.type, o.shape[1:]) for o in session.get_outputs()}
    assert outputs == {
        "logits": ("tensor(float)", [3]),
        "embedding": ("tensor(float)", [256]),
        "tokens": ("tensor(float)", [3, 128]),
        "mc_logits": ("tensor(float)", [10, 3]),
    }


@pytest.mark.parametrize("batch", [1, 2, 3, 5, 8])
def test_every_batch_size_equals_torch(session: onnxruntime.InferenceSession, model: SefarModel, batch: int) -> None:
    with torch.inference_mode():
        expected = model.eval()(FrameNormalizer((0.4, 0.5, 0.6), (0.225,) * 3)(torch.from_numpy(frames(batch))))
    logits, embedding, tokens = session.run(["logits", "embedding", "tokens"], {"frames": frames(batch)})
    np.testing.assert_allclose(logits, expected.logits, atol=1e-4)
    np.testing.assert_allclose(embedding, expected.embedding, atol=1e-4)
    np.testing.assert_allclose(tokens, expected.tokens, atol=1e-4)


def test_outputs_do_not_depend_on_the_batch(session: onnxruntime.InferenceSession) -> None:
    together = session.run(["logits"], {"frames": frames(4)})[0]
    alone = np.concatenate([session.run(["logits"], {"frames": f[None]})[0] for f in frames(4)])
    np.testing.assert_allclose(together, alone, atol=1e-4)


def test_mc_logits_are_the_head_under_its_fixed_masks(session: onnxruntime.InferenceSession, model: SefarModel) -> None:
    embedding, mc_logits = session.run(["embedding", "mc_logits"], {"frames": frames(3)})
    masks = export.dropout_masks()
    assert masks.shape == (10, EMBEDDING_DIM)
    assert set(masks.unique().tolist()) == {0.0, 2.0}
    assert 0.4 < (masks > 0).float().mean() < 0.6
    with torch.inference_mode():
        expected = model.head.classifier(torch.from_numpy(embedding)[:, None] * masks)
    np.testing.assert_allclose(mc_logits, expected, atol=1e-5)
    assert (mc_logits.std(axis=1) > 0).all()


def test_masks_use_the_given_dropout_rate() -> None:
    masks = export.dropout_masks(samples=400, rate=0.2)
    assert masks.unique().tolist() == pytest.approx([0.0, 1.25])
    assert (masks == 0).float().mean().item() == pytest.approx(0.2, abs=0.01)


def test_mean_over_many_masks_is_the_output_without_dropout(model: SefarModel) -> None:
    embedding = torch.randn(4, EMBEDDING_DIM, generator=torch.Generator().manual_seed(0))
    masks = export.dropout_masks(samples=4000)
    with torch.inference_mode():
        mean = model.head.classifier(embedding[:, None] * masks).mean(dim=1)
        plain = model.head.classifier(embedding)
    assert (mean - plain).abs().max() < 0.1 * plain.abs().max() + 0.02


def test_metadata_round_trip(session: onnxruntime.InferenceSession) -> None:
    about = ModelMetadata.from_props(session.get_modelmeta().custom_metadata_map, "test")
    assert about == ModelMetadata(
        name="test",
        version="7",
        dataset="made up",
        sample_frames=(1, 2, 3),
        resize=72,
        size=64,
        mean=(0.4, 0.5, 0.6),
        labels=LABELS,
        attributes=({"direction": "forward"}, {"direction": "backward"}, {"twists": 1.5}),
        opposites=(1, 0, None),
        token_dim=128,
    )


def test_one_file_without_dropout_or_source_paths(exported: export.ExportReport) -> None:
    proto = onnx.load(exported.path, load_external_data=False)
    assert not any(i.data_location == onnx.TensorProto.EXTERNAL for i in proto.graph.initializer)
    assert [p.name for p in exported.path.parent.iterdir()] == ["model.onnx"]
    assert "Dropout" not in {n.op_type for n in proto.graph.node}
    assert b"sefar_training" not in exported.path.read_bytes()
    assert exported.bytes == exported.path.stat().st_size < 12e6


def test_export_reports_small_differences(exported: export.ExportReport) -> None:
    assert set(exported.differences) == {"logits", "embedding", "tokens", "mc_logits"}
    assert max(exported.differences.values()) < 1e-4
    assert "model.onnx: 7." in str(exported) and "at batch sizes 1, 2, 3, 8: logits" in str(exported)


def test_export_leaves_the_model_as_it_was(model: SefarModel, exported: export.ExportReport) -> None:
    assert all(isinstance(b.temporal_fc, torch.nn.Linear) for b in model.backbone.blocks)


def test_folding_keeps_the_outputs(model: SefarModel) -> None:
    normalizer = FrameNormalizer((0.45,) * 3, (0.225,) * 3)
    whole = export.ServedModel(model, normalizer, export.dropout_masks())
    folded = export.ServedModel(model, normalizer, export.dropout_masks())
    export.fold_temporal_projections(folded.model)
    given = torch.from_numpy(frames(2))
    with torch.inference_mode():
        for a, b in zip(whole(given), folded(given), strict=True):
            assert torch.allclose(a, b, atol=1e-4)


def test_failed_parity_check_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = TimeSformer((1, 2), create_stem("patch", 32, 16, 24), dim=24, depth=1, heads=3)
    info = CheckpointInfo(model=ModelConfig(sample_frames=(1, 2), size=32, resize=32), dataset="none", labels=LABELS)

    def break_it(served: SefarModel) -> None:
        served.head.classifier.bias.data += 1

    monkeypatch.setattr(export, "fold_temporal_projections", break_it)
    about = export.export_metadata(info, "bad", "1", token_dim=24)
    with pytest.raises(export.ParityError, match="logits differs by"):
        export.export_model(SefarModel(backbone, FusionHead(2, 24, len(LABELS))), about, tmp_path / "bad.onnx")
    assert list(tmp_path.iterdir()) == []


def test_exported_file_can_be_evaluated(exported: export.ExportReport, model: SefarModel) -> None:
    predict, about = onnx_predictor(exported.path)
    logits = predict(frames(8)).logits
    report = score(logits, logits.argmax(axis=1), ClassTable(about.labels, about.attributes, about.opposites))
    assert report.top1 == 1


def test_untrained_model_for_tests(untrained_model: Path) -> None:
    predict, about = onnx_predictor(untrained_model)
    assert (about.name, about.labels, about.sample_frames) == ("untrained", ("a", "b", "c", "d"), (2, 2, 4))
    assert predict(np.zeros((1, 8, 64, 64, 3), np.uint8)).logits.shape == (1, 4)
