"""Models that see joints, or pictures and joints, for `FakeEstimator`: descriptions, and tiny ONNX files."""

from __future__ import annotations

import os
from math import prod
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from sefar_serve.metadata import ModelMetadata
from sefar_serve.pose import JOINTS, Estimators, PoseSetupError
from sefar_serve.pose.fake import FakeEstimator

POSE = ModelMetadata(
    name="poses",
    version="1",
    dataset="none",
    stream="pose",
    sample_frames=(2, 2, 4),
    joints=JOINTS,
    estimator=FakeEstimator.name,
    estimator_sha256=FakeEstimator.sha256,
    labels=("a", "b", "c"),
    embedding_dim=8,
    token_dim=4,
)
BOTH = ModelMetadata(
    **POSE.model_dump() | {"name": "both", "stream": "both", "resize": 40, "size": 32, "persons": 2, "pose_weight": 0.2}
)


def fake_estimators(*, anonymous: bool = False) -> Estimators:
    return Estimators(FakeEstimator, anonymous=anonymous)


def fake_estimator(home: Path | None) -> FakeEstimator:
    """In place of `sefar_serve.assemble.make_estimator`; also in processes that are started."""
    return FakeEstimator()


def write_tiny_model(out: Path, metadata: ModelMetadata) -> Path:
    """Write a model whose every output is a multiple of the sum of its inputs' means: logit n is n + 1 times that."""
    nodes, means, weights = [], [], []
    kinds = {np.dtype(np.uint8): TensorProto.UINT8, np.dtype(np.float32): TensorProto.FLOAT}
    for name, (_, shape) in metadata.inputs.items():
        nodes += [
            helper.make_node("Cast", [name], [f"{name}_numbers"], to=TensorProto.FLOAT),
            helper.make_node("Reshape", [f"{name}_numbers", f"{name}_flat_shape"], [f"{name}_flat"]),
            helper.make_node("ReduceMean", [f"{name}_flat", "axis"], [f"{name}_mean"]),
        ]
        weights.append(numpy_helper.from_array(np.array([-1, prod(shape)]), f"{name}_flat_shape"))
        means.append(f"{name}_mean")
    nodes.append(helper.make_node("Sum", means, ["mean"]))
    weights.append(numpy_helper.from_array(np.array([1]), "axis"))
    for name, shape in metadata.output_shapes.items():
        factors = np.arange(1, prod(shape) + 1, dtype=np.float32)[None]
        weights.append(numpy_helper.from_array(factors, f"{name}_factors"))
        weights.append(numpy_helper.from_array(np.array([-1, *shape]), f"{name}_shape"))
        nodes.append(helper.make_node("MatMul", ["mean", f"{name}_factors"], [f"{name}_row"]))
        nodes.append(helper.make_node("Reshape", [f"{name}_row", f"{name}_shape"], [name]))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [
            helper.make_tensor_value_info(name, kinds[dtype], ["batch", *shape])
            for name, (dtype, shape) in metadata.inputs.items()
        ],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape])
            for name, shape in metadata.output_shapes.items()
        ],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, metadata.to_props())
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, out)
    return out


def only_here() -> FakeEstimator:
    """An estimator that processes started by this one cannot load."""
    if "PYTEST_CURRENT_TEST" not in os.environ:  # decode processes get only some variables
        raise PoseSetupError("the pose models are gone")
    return FakeEstimator()
