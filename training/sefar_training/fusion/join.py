"""Join two exported files, a model of frames and a model of joints, into one graph that sees both.

Embedding and tokens are the two models' own, concatenated, frames first. Logits and Monte-Carlo logits are fused as in
`sefar_training.fusion.weight`. Familiarity is the lower one: what either model does not know is unfamiliar.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, compose, helper, numpy_helper

from sefar_serve.engine import Outputs
from sefar_serve.engine.onnx import OnnxModel
from sefar_serve.errors import SefarError
from sefar_serve.metadata import FAMILIARITY, OUTPUT_NAMES, FamiliarityInfo, ModelMetadata

from .weight import fuse_logits

OLDEST_OPSET = 13
"""The first ONNX operator set in which LogSoftmax works along one axis."""


class FusionError(SefarError, ValueError):
    """The two models cannot be joined."""


class Pair:
    """A model of frames and a model of joints that fit each other.

    Args:
        rgb: exported file of the model of frames.
        pose: exported file of the model of joints.

    Raises:
        FusionError: they do not fit; the message says why and how to fix it.
        ModelLoadError: a file is missing or not a SeFAR model.
    """

    def __init__(self, rgb: Path, pose: Path) -> None:
        self.rgb, self.pose = (OnnxModel(file, device="cpu") for file in (rgb, pose))
        check_fit(self.rgb.metadata, self.pose.metadata)

    def metadata(self, weight: float, name: str | None = None, version: str = "1") -> ModelMetadata:
        """The description of the joined model.

        Args:
            weight: of the pose stream, in [0, 1].
            name: the name that clients pass as `model`; None for ``sefar-<data set>-both``.
            version: version of the weights.
        """
        rgb, pose = self.rgb.metadata, self.pose.metadata
        return ModelMetadata(
            name=name or f"sefar-{rgb.dataset}-both",
            version=version,
            dataset=rgb.dataset,
            stream="both",
            sample_frames=rgb.sample_frames,
            layout=rgb.layout,
            resize=rgb.resize,
            size=rgb.size,
            mean=rgb.mean,
            std=rgb.std,
            joints=pose.joints,
            persons=pose.persons,
            estimator=pose.estimator,
            estimator_sha256=pose.estimator_sha256,
            pose_weight=weight,
            labels=rgb.labels,
            attributes=rgb.attributes or pose.attributes,
            opposites=rgb.opposites or pose.opposites,
            embedding_dim=rgb.embedding_dim + pose.embedding_dim,
            token_dim=rgb.token_dim + pose.token_dim,
            mc_samples=rgb.mc_samples,
            familiarity=self._familiarity(weight),
        )

    def _measuring(self, weight: float) -> list[str]:
        """The models whose familiarity counts: those that have a share in the scores, and measure it."""
        shares = {"rgb": (self.rgb, 1 - weight), "pose": (self.pose, weight)}
        return [kind for kind, (model, share) in shares.items() if share > 0 and model.metadata.familiarity]

    def _familiarity(self, weight: float) -> FamiliarityInfo | None:
        models = {"rgb": self.rgb, "pose": self.pose}
        found = [info for kind in self._measuring(weight) if (info := models[kind].metadata.familiarity)]
        if len(found) < 2:
            return next(iter(found), None)
        return FamiliarityInfo(
            method=f"min({', '.join(info.method for info in found)})",
            clips=min(info.clips for info in found),
            held_out=min(info.held_out for info in found),
        )

    def graph(self, metadata: ModelMetadata) -> onnx.ModelProto:
        """Join the two graphs.

        Args:
            metadata: see `metadata`; it goes into the file.

        Raises:
            FusionError: they use different versions of ONNX's operators.
        """
        protos = {"rgb": onnx.load(self.rgb.path), "pose": onnx.load(self.pose.path)}
        opsets = {kind: {entry.domain: entry.version for entry in proto.opset_import} for kind, proto in protos.items()}
        if opsets["rgb"] != opsets["pose"] or opsets["rgb"].get("", 0) < OLDEST_OPSET:
            raise FusionError(
                f"{self.rgb.path} and {self.pose.path} use the ONNX operator sets {opsets['rgb']} and "
                f"{opsets['pose']}; export both again with this version of `sefar export`"
            )
        parts = {kind: compose.add_prefix(proto, f"{kind}/", rename_inputs=False) for kind, proto in protos.items()}
        graphs = [part.graph for part in parts.values()]
        weight = metadata.pose_weight or 0.0
        nodes, constants = _fusing_nodes(weight)
        if metadata.familiarity is not None:
            names = [f"{kind}/{FAMILIARITY}" for kind in self._measuring(weight)]
            nodes.append(helper.make_node("Min", names, [FAMILIARITY]))
        outputs = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape])
            for name, shape in metadata.output_shapes.items()
        ]
        graph = helper.make_graph(
            [node for part in graphs for node in part.node] + nodes,
            "both",
            [value for part in graphs for value in part.input],
            outputs,
            [value for part in graphs for value in part.initializer] + constants,
            value_info=[value for part in graphs for value in (*part.value_info, *part.output)],
        )
        model = helper.make_model(
            graph,
            opset_imports=protos["rgb"].opset_import,
            ir_version=max(proto.ir_version for proto in protos.values()),
            functions=[function for part in parts.values() for function in part.functions],
            producer_name="sefar",
        )
        helper.set_model_props(model, metadata.to_props())
        onnx.checker.check_model(model, full_check=True)
        return model

    def outputs(self, weight: float, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """What the joined graph should give, computed from the outputs of the two files; see `check_parity`."""
        rgb, pose = (_run(model, inputs) for model in (self.rgb, self.pose))
        fused = {
            name: fuse_logits(getattr(rgb, name), getattr(pose, name), weight)
            if name.endswith("logits")
            else np.concatenate([getattr(rgb, name), getattr(pose, name)], axis=-1)
            for name in OUTPUT_NAMES
        }
        given = {"rgb": rgb.familiarity, "pose": pose.familiarity}
        known = [given[kind] for kind in self._measuring(weight)]
        return [*fused.values(), *([np.minimum.reduce(known)] if known else [])]


def _run(model: OnnxModel, inputs: Mapping[str, NDArray[Any]]) -> Outputs:
    return model.run({name: inputs[name] for name in model.metadata.inputs})


def _fusing_nodes(weight: float) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """The nodes that join the outputs of both streams, and their constants."""
    share = {"rgb": 1 - weight, "pose": weight}
    constants = [numpy_helper.from_array(np.array(w, np.float32), f"{kind}/share") for kind, w in share.items()]
    nodes = []
    for name in OUTPUT_NAMES:
        if not name.endswith("logits"):
            nodes.append(helper.make_node("Concat", [f"{kind}/{name}" for kind in share], [name], axis=-1))
            continue
        for kind in share:
            log = f"{kind}/{name}/log_softmax"
            nodes.append(helper.make_node("LogSoftmax", [f"{kind}/{name}"], [log], axis=-1))
            nodes.append(helper.make_node("Mul", [log, f"{kind}/share"], [f"{kind}/{name}/weighted"]))
        nodes.append(helper.make_node("Add", [f"{kind}/{name}/weighted" for kind in share], [name]))
    return nodes, constants


def check_fit(rgb: ModelMetadata, pose: ModelMetadata) -> None:
    """Check that a model of frames and a model of joints can be joined.

    Raises:
        FusionError: a model sees something else, or labels, sampling or Monte-Carlo samples differ.
    """
    for wanted, found in (("rgb", rgb), ("pose", pose)):
        if found.stream != wanted:
            raise FusionError(
                f"the model {found.name} has the stream {found.stream}, expected {wanted}; give a model of frames "
                "first, then a model of joints"
            )
    if rgb.labels != pose.labels:
        raise FusionError(
            f"the classes differ: {_first_difference(rgb.labels, pose.labels)}; train both models with the same "
            "data.labels"
        )
    for field in ("sample_frames", "layout"):
        ours, theirs = getattr(rgb, field), getattr(pose, field)
        if ours != theirs:
            raise FusionError(
                f"model.{field} is {_written(ours)} in the model of frames, but {_written(theirs)} in the model of "
                "joints; both see the same frames of a clip, so train one of them again with the other's value"
            )
    if rgb.mc_samples != pose.mc_samples:
        raise FusionError(
            f"the models have {rgb.mc_samples} and {pose.mc_samples} Monte-Carlo samples; export both again with this "
            "version of `sefar export`"
        )


def _written(value: object) -> str:
    return str(list(value)) if isinstance(value, tuple) else str(value)


def _first_difference(ours: Sequence[str], theirs: Sequence[str]) -> str:
    if len(ours) != len(theirs):
        return f"{len(ours)} in the model of frames, {len(theirs)} in the model of joints"
    number = next(n for n, pair in enumerate(zip(ours, theirs, strict=True)) if pair[0] != pair[1])
    return f"class {number} is {ours[number]!r} in the model of frames, {theirs[number]!r} in the model of joints"
