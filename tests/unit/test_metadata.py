"""A model's description survives the ONNX metadata, and a wrong one is refused."""

from __future__ import annotations

import numpy as np
import pytest
from pose_models import BOTH, POSE

from sefar_serve.engine import FAKE_METADATA
from sefar_serve.metadata import OUTPUT_NAMES, MetadataError, ModelMetadata, TensorSpec, memory_layout

STREAMS = pytest.mark.parametrize("meta", [FAKE_METADATA, POSE, BOTH], ids=["rgb", "pose", "both"])


@STREAMS
def test_round_trip(meta: ModelMetadata) -> None:
    props = meta.to_props() | {"foreign": "not ours"}
    assert ModelMetadata.from_props(props, "m.onnx") == meta


def test_only_what_a_model_sees_is_written() -> None:
    frames = {f"sefar.{name}" for name in ("resize", "size", "mean", "std")}
    joints = {f"sefar.{name}" for name in ("stream", "joints", "persons", "estimator", "estimator_sha256")}
    assert frames <= FAKE_METADATA.to_props().keys() and not joints & FAKE_METADATA.to_props().keys()
    assert joints <= POSE.to_props().keys() and not frames & POSE.to_props().keys()
    assert frames | joints <= BOTH.to_props().keys()


def test_inputs_and_outputs() -> None:
    assert BOTH.inputs == {
        "frames": (np.dtype(np.uint8), (8, 32, 32, 3)),
        "poses": (np.dtype(np.float32), (8, 2, 15, 4)),
    }
    assert list(BOTH.tensors) == ["frames", "poses", *OUTPUT_NAMES]
    assert BOTH.tensors["mc_logits"] == (np.dtype(np.float32), (10, 3))
    assert {name: values.shape for name, values in POSE.zeros(3).items()} == {"poses": (3, 8, 1, 15, 4)}
    assert POSE.zero_clip["poses"].shape == (8, 1, 15, 4)


def test_tensors_lie_in_memory_at_aligned_offsets() -> None:
    bytes_, numbers = np.dtype(np.uint8), np.dtype(np.float32)
    specs = {"a": TensorSpec(bytes_, (3, 5)), "b": TensorSpec(numbers, (16,)), "c": TensorSpec(numbers, (1,))}
    assert memory_layout(specs) == ({"a": 0, "b": 64, "c": 128}, 192)


def test_error_for_a_file_without_metadata_says_how_to_export() -> None:
    with pytest.raises(MetadataError, match=r"m\.onnx.*sefar export"):
        ModelMetadata.from_props({"producer": "x"}, "m.onnx")


def test_broken_json_names_the_key() -> None:
    with pytest.raises(MetadataError, match=r"sefar\.labels"):
        ModelMetadata.from_props(FAKE_METADATA.to_props() | {"sefar.labels": "["}, "m.onnx")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"size": 64}, "larger than resize"),
        ({"attributes": ({},)}, "1 attributes for 3 labels"),
        ({"opposites": (None,)}, "1 opposites for 3 labels"),
        ({"sample_frames": ()}, "sample_frames is empty"),
        ({"layout": "random"}, "layout"),
    ],
)
def test_contradictions_are_refused(change: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        ModelMetadata(**(FAKE_METADATA.model_dump() | change))
