"""Export a checkpoint to the one ONNX file that is served, and check that it agrees with torch.

The graph takes uint8 frames, or the joints that a pose estimator found. It contains normalisation, the model, T fixed
Monte-Carlo dropout masks of the head, and the metadata of `sefar_serve.metadata`. If it disagrees with torch, no file
is written.
"""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sefar_serve.atomic import atomic_file
from sefar_serve.errors import SefarError
from sefar_serve.metadata import OUTPUT_NAMES, ModelMetadata, TensorSpec
from sefar_serve.pose import JOINTS, Estimator
from sefar_serve.pose.estimators import TRUE

from .checkpoint import CheckpointError, CheckpointInfo, load_checkpoint
from .config import ModelConfig
from .familiarity import add_familiarity
from .model import (
    EMBEDDING_DIM,
    FrameNormalizer,
    PoseNormalizer,
    SefarModel,
    Stream,
    TimeSformer,
    create_model,
    create_normalizer,
)
from .typical import Typical, load_typical

PARITY_BATCHES = (1, 2, 3, 8)
TOLERANCE = 1e-3
"""Largest allowed difference, relative to an output's largest value if that is above 1."""

MC_SAMPLES = 10
MC_SEED = 20250101
"""The masks are the same in every exported file, so that the reliabilities of two models are comparable."""


Reference = Callable[[Mapping[str, NDArray[Any]]], Sequence[NDArray[Any]]]
"""What a graph should compute: from its inputs, by name, to its outputs, in the order of the graph."""


class ParityError(SefarError, RuntimeError):
    """The exported graph disagrees with what it was made from."""


@dataclass(frozen=True)
class ExportReport:
    """The result of an export.

    Attributes:
        path: the file.
        bytes: its size.
        nodes: number of graph nodes.
        differences: for each output the largest absolute difference from torch over all checked batches.
    """

    path: Path
    bytes: int
    nodes: int
    differences: Mapping[str, float]

    def __str__(self) -> str:
        figures = ", ".join(f"{name} {value:.1e}" for name, value in self.differences.items())
        return (
            f"{self.path}: {self.bytes / 1e6:.1f} MB, {self.nodes} nodes; largest difference from torch "
            f"at batch sizes {', '.join(map(str, PARITY_BATCHES))}: {figures}"
        )


def dropout_masks(samples: int = MC_SAMPLES, rate: float = 0.5, seed: int = MC_SEED) -> Tensor:
    """Fixed dropout masks of the embedding, float (T,256): 0 or 1/(1-rate), scaled as in training."""
    kept = torch.rand(samples, EMBEDDING_DIM, generator=torch.Generator().manual_seed(seed)) >= rate
    return kept.float() / (1 - rate)


class ServedModel(nn.Module):
    """What the ONNX file computes.

    Args:
        model: the trained model; it is copied and not changed.
        normalizer: turns decoded frames or joints into the model's input.
        masks_TC: dropout masks of the embedding, (T,256).
    """

    def __init__(self, model: SefarModel, normalizer: FrameNormalizer | PoseNormalizer, masks_TC: Tensor) -> None:
        super().__init__()
        self.model = copy.deepcopy(model)
        self.normalizer = normalizer
        self.register_buffer("masks_TC", masks_TC)
        self.model.backbone.set_fused_attention(False)  # exports to fewer nodes
        # A new module is in train mode, which would put dropout into the graph.
        self.eval()

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Logits, embedding, tokens and Monte-Carlo logits of uint8 frames (B,F,H,W,3) or joints (B,F,P,J,4)."""
        out = self.model(self.normalizer(inputs))
        mc_logits = self.model.head.classifier(out.embedding.unsqueeze(1) * self.masks_TC)
        return out.logits, out.embedding, out.tokens, mc_logits

    def outputs(self, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """The same from and to arrays; see `check_parity`."""
        (given,) = inputs.values()
        with torch.inference_mode():
            return [output.numpy() for output in self(torch.from_numpy(given))]


def fold_temporal_projections(model: SefarModel) -> None:
    """Merge the two linear maps after temporal attention into one, in place. The output does not change."""
    if not isinstance(model.backbone, TimeSformer):
        return
    for block in model.backbone.blocks:
        proj, fc = block.temporal_attn.proj, block.temporal_fc
        with torch.no_grad():
            bias = fc.weight @ proj.bias + fc.bias
            proj.weight.copy_(fc.weight @ proj.weight)
            proj.bias.copy_(bias)
        block.temporal_fc = nn.Identity()


def export_metadata(info: CheckpointInfo, name: str, version: str, token_dim: int) -> ModelMetadata:
    """The metadata of an exported file.

    Args:
        info: the checkpoint's description.
        name: the name that clients pass as `model`.
        version: version of the weights.
        token_dim: width D of its tokens.
    """
    config = info.model
    sees_joints = config.stream == "pose"
    return ModelMetadata(
        name=name,
        version=version,
        dataset=info.dataset,
        stream=config.stream,
        sample_frames=config.sample_frames,
        layout=config.layout,
        resize=None if sees_joints else config.resize,
        size=None if sees_joints else config.size,
        mean=config.mean,
        std=config.std,
        joints=JOINTS if sees_joints else (),
        persons=config.persons,
        estimator=info.estimator,
        estimator_sha256=info.estimator_sha256,
        labels=info.labels,
        attributes=info.attributes,
        opposites=info.opposites,
        embedding_dim=EMBEDDING_DIM,
        token_dim=token_dim,
        mc_samples=MC_SAMPLES,
        temperature=info.temperature,
    )


def export_checkpoint(
    checkpoint: Path, out: Path, name: str | None = None, version: str = "1", estimator: Estimator | None = None
) -> ExportReport:
    """Export a checkpoint folder.

    Args:
        checkpoint: the checkpoint folder.
        out: the ONNX file to write; its folder is created if missing.
        name: the name that clients pass as `model`; None for ``sefar-<data set>-<variant>``, or
            ``sefar-<data set>-<width>x<depth>`` for sizes without a named variant.
        version: version of the weights.
        estimator: serve a model that was trained on true joints on those that this finds. None serves such a model
            nowhere.

    Raises:
        CheckpointError: the folder is not a checkpoint, or `estimator` is given for a model that was not trained on
            true joints.
        ParityError: ONNX Runtime and torch disagree. No file is written.
    """
    model, info = load_checkpoint(checkpoint)
    if estimator is not None:
        if not info.estimator.startswith(TRUE):
            raise CheckpointError(f"{checkpoint} was not trained on true joints; leave out --estimated-joints")
        info = info.model_copy(update={"estimator": estimator.name, "estimator_sha256": estimator.sha256})
    metadata = export_metadata(
        info, name or f"sefar-{info.dataset}-{info.model.sizes_name}", version, model.backbone.dim
    )
    # Estimated joints are not true ones, so what was typical of those is not typical of these.
    return export_model(model, metadata, out, load_typical(checkpoint) if estimator is None else None)


def export_model(model: SefarModel, metadata: ModelMetadata, out: Path, typical: Typical | None = None) -> ExportReport:
    """Export a model from memory; see `export_checkpoint`.

    Args:
        model: the model.
        metadata: its description.
        out: the ONNX file to write.
        typical: what is typical of its training clips; None for a file that does not measure familiarity.
    """
    normalizer = create_normalizer(metadata.stream, metadata.mean, metadata.std)
    masks = dropout_masks(metadata.mc_samples, model.head.dropout.p)
    reference = ServedModel(model, normalizer, masks)
    served = ServedModel(model, normalizer, masks)
    fold_temporal_projections(served.model)
    proto = _to_onnx(served, metadata)
    outputs = reference.outputs
    if typical is not None:
        add_familiarity(proto, typical, metadata.model_copy(update={"familiarity": typical.info}))
        outputs = with_familiarity(outputs, typical)
    serialized = proto.SerializeToString()
    differences = check_parity(serialized, outputs, metadata.inputs)
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(out) as new:
        new.write_bytes(serialized)
    return ExportReport(out, len(serialized), len(proto.graph.node), differences)


def with_familiarity(reference: Reference, typical: Typical) -> Reference:
    """A reference that gives the familiarity as well, after the other outputs."""

    def outputs(inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        found = reference(inputs)
        tokens = found[OUTPUT_NAMES.index("tokens")]
        return [*found, typical.familiarity(tokens.mean(axis=1))]

    return outputs


def export_untrained(
    out: Path,
    labels: Sequence[str],
    sample_frames: tuple[int, ...] = (2, 2, 4),
    name: str = "untrained",
    version: str = "1",
    stream: Stream = "rgb",
    persons: int = 1,
    estimator: tuple[str, str] = ("fake", "0" * 64),
) -> ExportReport:
    """Export a tiny model with seeded random weights: a real file with the real interface, for tests.

    Args:
        out: the ONNX file to write.
        labels: class names.
        sample_frames: frames per temporal element, context last.
        name: the name that clients pass as `model`.
        version: version to state; the weights do not depend on it.
        stream: what it sees.
        persons: number of persons whose joints it sees, for the stream ``pose``.
        estimator: name and SHA-256 of the pose estimator to state, for the stream ``pose``; by default those of
            `sefar_serve.pose.fake`.
    """
    torch.manual_seed(0)
    sees_joints = stream == "pose"
    config = ModelConfig(
        stream=stream, variant="pose-tiny" if sees_joints else "tiny", sample_frames=sample_frames, persons=persons
    )
    model = create_model(config.variant, len(labels), sample_frames, persons=persons).eval()
    info = CheckpointInfo(
        model=config,
        dataset="none",
        labels=tuple(labels),
        estimator=estimator[0] if sees_joints else "",
        estimator_sha256=estimator[1] if sees_joints else "",
    )
    return export_model(model, export_metadata(info, name, version, model.backbone.dim), out)


def _to_onnx(served: ServedModel, metadata: ModelMetadata) -> onnx.ModelProto:
    """Trace and optimise the graph, add the metadata, and check it."""
    ((name, example),) = metadata.zeros(2).items()  # a batch of 1 would become a constant
    with warnings.catch_warnings():
        # The exporter and its dependencies warn about their own deprecated internals.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            served,
            (torch.from_numpy(example),),
            input_names=[name],
            output_names=list(OUTPUT_NAMES),
            dynamic_shapes={"inputs": {0: torch.export.Dim("batch", min=1, max=1 << 16)}},
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    buffer = io.BytesIO()
    program.save(buffer)
    proto = onnx.load_from_string(buffer.getvalue())
    # The exporter adds notes with paths of this machine, which must not be published.
    graph = proto.graph
    values = (*graph.input, *graph.output, *graph.value_info, *graph.initializer)
    for noted in (proto, graph, *graph.node, *values):
        del noted.metadata_props[:]
        noted.doc_string = ""
    for key, value in metadata.to_props().items():
        proto.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def check_parity(serialized: bytes, reference: Reference, inputs: Mapping[str, TensorSpec]) -> dict[str, float]:
    """Compare ONNX Runtime with a reference on random frames and joints at several batch sizes.

    Args:
        serialized: the graph.
        reference: from the inputs by name to what the graph's outputs should be.
        inputs: dtype and shape of each input for one clip.

    Returns:
        For each output the largest absolute difference.

    Raises:
        ParityError: an output differs in shape or by more than `TOLERANCE`.
    """
    session = onnxruntime.InferenceSession(serialized, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    names = [output.name for output in session.get_outputs()]
    differences = dict.fromkeys(names, 0.0)
    for batch in PARITY_BATCHES:
        given = {name: _random_clips(rng, batch, spec) for name, spec in inputs.items()}
        for name, ours, theirs in zip(names, session.run(names, given), reference(given), strict=True):
            if ours.shape != theirs.shape:
                raise ParityError(
                    f"{name} has shape {ours.shape} at batch size {batch}, but should have {theirs.shape}"
                )
            difference = float(np.abs(ours - theirs).max())
            allowed = TOLERANCE * max(1.0, float(np.abs(theirs).max()))
            # Written so that a NaN fails as well.
            if not difference <= allowed:
                raise ParityError(f"{name} differs by {difference:.2e} from what it should be at batch size {batch}")
            differences[name] = max(differences[name], difference)
    return differences


def _random_clips(rng: np.random.Generator, count: int, spec: TensorSpec) -> NDArray[Any]:
    """Random frames, or random joints of which the last clip has none."""
    if spec.dtype == np.uint8:
        return rng.integers(0, 256, (count, *spec.shape), dtype=np.uint8)
    joints = rng.normal(0, 0.4, (count, *spec.shape))
    joints[..., 3] = rng.random(joints.shape[:-1])
    joints[-1] = 0
    return joints.astype(spec.dtype)
