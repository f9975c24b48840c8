"""Engines run models of joints, and of pictures and joints, by the names of their inputs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import onnx
import pytest
from pose_models import BOTH, POSE, write_tiny_model
from redescribed_model import write_redescribed

from sefar_serve.engine import FakeEngine, InferenceError, ModelLoadError
from sefar_serve.engine.base import Inputs, batch_of, check_inputs
from sefar_serve.engine.local import LocalEngine
from sefar_serve.engine.onnx import OnnxModel
from sefar_serve.metadata import ModelMetadata

STREAMS = pytest.mark.parametrize("meta", [POSE, BOTH], ids=["pose", "both"])


def random_clips(meta: ModelMetadata, count: int) -> list[Inputs]:
    rng = np.random.default_rng(0)
    return [
        {
            name: rng.integers(0, 256, shape, dtype) if name == "frames" else rng.normal(size=shape).astype(dtype)
            for name, (dtype, shape) in meta.inputs.items()
        }
        for _ in range(count)
    ]


@STREAMS
def test_a_file_runs_by_the_names_of_its_inputs(tmp_path: Path, meta: ModelMetadata) -> None:
    model = OnnxModel(write_tiny_model(tmp_path / "model.onnx", meta), device="cpu")
    assert model.metadata == meta
    model.warm_up(2)
    clips = random_clips(meta, 3)
    outputs = model.run(batch_of(clips))
    means = [sum(float(values.astype(np.float64).mean()) for values in clip.values()) for clip in clips]
    np.testing.assert_allclose(outputs.logits, np.outer(means, [1, 2, 3]), rtol=1e-4, atol=1e-5)
    assert outputs.mc_logits.shape == (3, meta.mc_samples, 3)


@STREAMS
def test_clips_are_batched_and_answered_like_single_ones(tmp_path: Path, meta: ModelMetadata) -> None:
    model = OnnxModel(write_tiny_model(tmp_path / "model.onnx", meta), device="cpu")

    async def run() -> None:
        engine = LocalEngine(model, max_batch=4, max_wait=0.05)
        await engine.start()
        clips = random_clips(meta, 6)
        together = await asyncio.gather(*map(engine.infer, clips))
        await engine.close()
        assert max(prediction.batch_size for prediction in together) == 4
        for clip, prediction in zip(clips, together, strict=True):
            alone = model.run(batch_of([clip])).row(0)
            np.testing.assert_allclose(prediction.outputs.logits, alone.logits, rtol=1e-5)

    asyncio.run(run())


def test_a_graph_that_contradicts_its_stream_is_refused(tmp_path: Path) -> None:
    poses = write_tiny_model(tmp_path / "poses.onnx", POSE)
    fields = BOTH.model_dump(mode="json", include={"stream", "resize", "size", "pose_weight"})
    write_redescribed(poses, tmp_path / "as_both.onnx", **fields)
    with pytest.raises(ModelLoadError, match="has no tensor 'frames'"):
        OnnxModel(tmp_path / "as_both.onnx")
    write_redescribed(poses, tmp_path / "two.onnx", persons=2)
    with pytest.raises(ModelLoadError, match=r"'poses' is float32 .*metadata says .*8, 2, 15, 4"):
        OnnxModel(tmp_path / "two.onnx")
    both = onnx.load(write_tiny_model(tmp_path / "both.onnx", BOTH))
    onnx.helper.set_model_props(both, POSE.model_copy(update={"persons": 2}).to_props())
    onnx.save(both, tmp_path / "as_pose.onnx")
    with pytest.raises(ModelLoadError, match=r"takes 'frames', but .* stream 'pose' takes only poses"):
        OnnxModel(tmp_path / "as_pose.onnx")


def test_wrong_inputs_are_named() -> None:
    zeros = BOTH.zero_clip
    check_inputs(zeros, BOTH)
    with pytest.raises(InferenceError, match="the model takes frames and poses, but got frames"):
        check_inputs({"frames": zeros["frames"]}, BOTH)
    with pytest.raises(InferenceError, match="the model takes poses, but got nothing"):
        check_inputs({}, POSE)
    with pytest.raises(InferenceError, match=r"takes poses of float32 \(8, 1, 15, 4\), but got float64"):
        check_inputs({"poses": np.zeros((8, 1, 15, 4))}, POSE)


@pytest.mark.parametrize(("visibility", "label"), [(0.0, 0), (0.5, 1), (1.0, 2)])
def test_the_fake_answers_from_the_visibility_of_joints(visibility: float, label: int) -> None:
    async def run() -> None:
        engine = FakeEngine(POSE)
        await engine.start()
        poses = np.zeros((8, 1, 15, 4), np.float32)
        poses[..., 3] = visibility
        assert (await engine.infer({"poses": poses})).outputs.logits.argmax() == label
        with pytest.raises(InferenceError):
            await engine.infer({"frames": poses})

    asyncio.run(run())


def test_the_fake_prefers_the_frames_of_a_model_of_both() -> None:
    async def run() -> None:
        engine = FakeEngine(BOTH)
        await engine.start()
        inputs = {"frames": np.full((8, 32, 32, 3), 250, np.uint8), "poses": np.zeros((8, 2, 15, 4), np.float32)}
        assert (await engine.infer(inputs)).outputs.logits.argmax() == 2

    asyncio.run(run())
