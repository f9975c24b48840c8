"""Add the output `familiarity` to an exported graph."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from sefar_serve.metadata import FAMILIARITY, PREFIX, ModelMetadata

from .typical import Typical

OLDEST_OPSET = 13
"""The first ONNX operator set in which axes of Squeeze are an input."""


def add_familiarity(model: onnx.ModelProto, typical: Typical, metadata: ModelMetadata) -> None:
    """Add the output, in place, computed from the output ``tokens``; other outputs do not change.

    If the graph has the output already, it is replaced.

    Args:
        model: the graph.
        typical: what is typical.
        metadata: description of the model, with `ModelMetadata.familiarity`; it replaces the one in the file.

    Raises:
        ValueError: the graph uses an ONNX operator set before `OLDEST_OPSET`.
    """
    version = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if version < OLDEST_OPSET:
        raise ValueError(f"the graph uses the ONNX operator set {version}; export the model again with `sefar export`")
    _remove_familiarity(model.graph)
    centre = typical.reference.mean(axis=0, dtype=np.float64)
    known = typical.reference - centre
    widths = np.diff(typical.distances.astype(np.float64))
    elements = len(metadata.sample_frames)
    constants = {
        "average": np.full((1, elements), 1 / elements, np.float32),
        "centre": centre[None].astype(np.float32),
        "reference": (-2 * known.T).astype(np.float32),
        "squares": (known**2).sum(axis=1)[None].astype(np.float32),
        "ones": np.ones((known.shape[1], 1), np.float32),
        "zero": np.zeros(1, np.float32),
        "neighbours": np.array([typical.neighbour], np.int64),
        "last": np.array([typical.neighbour - 1], np.int64),
        "axis": np.array([1], np.int64),
        "starts": typical.distances[None, :-1],
        "widths": widths[None].astype(np.float32),
        "slopes": (np.diff(typical.shares.astype(np.float64)) / widths)[:, None].astype(np.float32),
        "highest": typical.shares[:1],
    }
    steps = [
        # The mean token, as a difference from the middle of the reference: squares of large numbers would lose digits.
        ("MatMul", ["average", "/tokens"], ["mean"], {}),
        ("Squeeze", ["mean", "axis"], ["flat"], {}),
        ("Sub", ["flat", "centre"], ["clip"], {}),
        # Squared distances |a|² - 2ab + |b|² to all reference clips.
        ("Mul", ["clip", "clip"], ["clip_squares"], {}),
        ("MatMul", ["clip_squares", "ones"], ["length"], {}),
        ("MatMul", ["clip", "reference"], ["products"], {}),
        ("Add", ["products", "squares"], ["partial"], {}),
        ("Add", ["partial", "length"], ["squared"], {}),
        ("TopK", ["squared", "neighbours"], ["nearest", "which"], {"axis": 1, "largest": 0, "sorted": 1}),
        ("Gather", ["nearest", "last"], ["farthest"], {"axis": 1}),
        ("Max", ["farthest", "zero"], ["positive"], {}),
        ("Sqrt", ["positive"], ["distance"], {}),
        # The curve: from its highest value, each piece adds its slope times how far the distance reaches into it.
        ("Sub", ["distance", "starts"], ["beyond"], {}),
        ("Max", ["beyond", "zero"], ["reached"], {}),
        ("Min", ["reached", "widths"], ["within"], {}),
        ("MatMul", ["within", "slopes"], ["fall"], {}),
        ("Add", ["fall", "highest"], ["sum"], {}),
        ("Max", ["sum", "zero"], ["share"], {}),
        ("Squeeze", ["share", "axis"], [f"/{FAMILIARITY}"], {}),
    ]
    model.graph.node.extend(
        helper.make_node(kind, [_named(name) for name in inputs], [_named(name) for name in outputs], **options)
        for kind, inputs, outputs, options in steps
    )
    model.graph.initializer.extend(numpy_helper.from_array(value, _named(name)) for name, value in constants.items())
    model.graph.output.append(helper.make_tensor_value_info(FAMILIARITY, TensorProto.FLOAT, [_batch_axis(model)]))
    others = [prop for prop in model.metadata_props if not prop.key.startswith(PREFIX)]
    kept = {prop.key: prop.value for prop in others}
    del model.metadata_props[:]
    for key, value in (kept | metadata.to_props()).items():
        model.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(model, full_check=True)


def _remove_familiarity(graph: onnx.GraphProto) -> None:
    for kind in (graph.node, graph.initializer, graph.value_info, graph.output):
        kept = [entry for entry in kind if not _is_ours(entry.output[0] if kind is graph.node else entry.name)]
        del kind[:]
        kind.extend(kept)


def _is_ours(name: str) -> bool:
    return name == FAMILIARITY or name.startswith(f"{FAMILIARITY}/")


def _named(name: str) -> str:
    """The name in the graph; one that starts with a slash is a tensor of the model."""
    return name[1:] if name.startswith("/") else f"{FAMILIARITY}/{name}"


def _batch_axis(model: onnx.ModelProto) -> str:
    return model.graph.output[0].type.tensor_type.shape.dim[0].dim_param or "batch"
