"""`sefar quantize`: an exported file in int8 or half precision, written only if it is as accurate as before.

int8 is static: scales of activations come from real clips, weights are quantised per output channel, both
symmetrically, which CPUs multiply fastest. Only products with constant weights are quantised; the input layer, the
head, attention and `familiarity` stay in float32. Tokens move a little further from those of the training clips, so
calibrate the familiarity again afterwards (`sefar calibrate`).
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel
from tqdm import tqdm

from sefar_serve.atomic import atomic_file
from sefar_serve.errors import SefarError
from sefar_serve.lists import read_list
from sefar_serve.metadata import FAMILIARITY, PREFIX, ModelMetadata, Quantization
from sefar_serve.pose import Estimator

from .evaluation import EvaluationError, EvaluationReport, evaluate_clips, open_clips, open_model
from .evaluation.clips import ModelClips
from .evaluation.predict import onnx_predictor
from .evaluation.score import check_labels

Lower = Literal["int8", "fp16"]

CALIBRATION_CLIPS = 128
"""Clips that the ranges of activations come from, spread evenly over the list."""

ALLOWED_TOP1 = 0.005
"""Largest allowed fall of top-1."""

ALLOWED_AUROC = 0.02
"""Largest allowed fall of η's AUROC."""


class PrecisionError(SefarError, RuntimeError):
    """The file loses too much accuracy at the lower precision."""


@dataclass(frozen=True)
class QuantizationReport:
    """What became of an exported file.

    Attributes:
        path: the file that was written.
        bytes: its size.
        before: results of the file in float32 on the list.
        after: those of the new file.
    """

    path: Path
    bytes: int
    before: EvaluationReport
    after: EvaluationReport

    def __str__(self) -> str:
        return (
            f"{self.path}: {self.bytes / 1e6:.1f} MB. On {self.after.clips} clips: {figures(self.before, self.after)}"
        )


def quantize_file(
    model: Path,
    clips: Path,
    root: Path,
    out: Path,
    precision: Lower = "int8",
    *,
    remap: Mapping[str, str] | None = None,
    joints: Path | None = None,
    estimator: Estimator | None = None,
    workers: int = 0,
    progress: bool = True,
) -> QuantizationReport:
    """Write an exported file at a lower precision.

    Args:
        model: exported file ending in ``.onnx``.
        clips: labelled list, not of training clips: ranges are measured on a part of it, accuracy on all of it.
        root: folder that relative clip paths are joined to.
        out: the file to write.
        precision: ``int8`` for CPUs, ``fp16`` for GPUs.
        remap: path prefix replacements.
        joints: folder of joints, see `open_joints`.
        estimator: finds joints that are not stored yet; None for MediaPipe's.
        workers: threads that decode clips.
        progress: show progress bars.

    Raises:
        EvaluationError: `model` is not an exported file in float32, or the list does not fit it.
        PrecisionError: top-1 falls by more than `ALLOWED_TOP1`, or η's AUROC by more than `ALLOWED_AUROC`. No file is
            written.
        ModelLoadError, ListFileError, ClipError, PoseSetupError: see `evaluate_model`.
    """
    if model.suffix != ".onnx":
        raise EvaluationError(f"{model} is not an .onnx file; export the checkpoint first with `sefar export`")
    opened = open_model(model, "cpu")
    predict, about = onnx_predictor(model)
    if about.quantization is not None:
        raise EvaluationError(f"{model} is {about.quantization.precision} already; give the file that it was made from")
    entries = read_list(clips, root, remap)
    check_labels([entry.label for entry in entries], len(about.labels))
    data = open_clips(
        opened, entries, clips, root, joints=joints, estimator=estimator, threads=workers or None, progress=progress
    )
    with tempfile.TemporaryDirectory(prefix="sefar-quantize-") as folder:
        lower = Path(folder) / "lower.onnx"
        if precision == "int8":
            write_int8(model, _spread(data, about, progress), lower)
        else:
            _write_fp16(model, lower)
        before = evaluate_clips(predict, data, opened.classes, workers=workers, progress=progress)
        after = evaluate_clips(onnx_predictor(lower)[0], data, opened.classes, workers=workers, progress=progress)
        _check(precision, before, after)
        kept = Quantization(precision=precision, clips=after.clips, top1=after.top1, top1_fp32=before.top1)
        serialized = _described(lower, about.model_copy(update={"quantization": kept}))
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(out) as new:
        new.write_bytes(serialized)
    return QuantizationReport(out, len(serialized), before, after)


def figures(before: EvaluationReport, after: EvaluationReport) -> str:
    """Top-1 and η's AUROC in float32 and at the lower precision, in words."""
    text = f"top-1 {100 * before.top1:.1f} % in fp32, {100 * after.top1:.1f} % now"
    old, new = _auroc(before), _auroc(after)
    return text if old is None or new is None else f"{text}; η's AUROC {old:.3f} in fp32, {new:.3f} now"


def _auroc(report: EvaluationReport) -> float | None:
    return None if report.eta is None else report.eta.auroc


def _check(precision: Lower, before: EvaluationReport, after: EvaluationReport) -> None:
    old, new = _auroc(before), _auroc(after)
    # Differences of shares: a small margin keeps rounding out of the decision.
    lost = before.top1 - after.top1 > ALLOWED_TOP1 + 1e-9
    if lost or (old is not None and new is not None and old - new > ALLOWED_AUROC + 1e-9):
        raise PrecisionError(
            f"{precision} loses too much accuracy on {after.clips} clips: {figures(before, after)}. Allowed are "
            f"{100 * ALLOWED_TOP1:.1f} points of top-1 and {ALLOWED_AUROC} of AUROC. No file was written"
        )


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # has no types
    """Hands the inputs of single clips to ONNX Runtime."""

    def __init__(self, clips: Iterator[dict[str, NDArray[Any]]]) -> None:
        self._clips = clips

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        return next(self._clips, None)


def _spread(clips: ModelClips, about: ModelMetadata, progress: bool) -> Iterator[dict[str, NDArray[Any]]]:
    """Inputs of `CALIBRATION_CLIPS` clips, spread evenly over a list, each with a batch axis of 1."""
    chosen = np.unique(np.linspace(0, len(clips) - 1, CALIBRATION_CLIPS).round().astype(int))
    for index in tqdm(chosen.tolist(), "measuring ranges", unit="clip", disable=not progress):
        given = clips[index]["inputs"]
        inputs = given if isinstance(given, tuple) else (given,)
        yield {
            name: kind.numpy().reshape(1, *spec.shape)
            for (name, spec), kind in zip(about.inputs.items(), inputs, strict=True)
        }


def write_int8(model: Path, clips: Iterator[dict[str, NDArray[Any]]], out: Path) -> None:
    """Write a file with products in int8; its metadata is not changed.

    Args:
        model: exported file.
        clips: inputs that the ranges of activations are measured on, each with a batch axis of 1.
        out: the file to write.
    """
    # Constant folding comes first: weights that the graph transposes or cuts are not constants before it.
    folded = out.with_name("folded.onnx")
    quant_pre_process(model, folded, skip_symbolic_shape=True)
    graph = _named(folded)
    onnx.save(graph, folded)
    level = logging.getLogger().level
    logging.getLogger().setLevel(logging.ERROR)  # it advises to do what was done above
    try:
        quantize_static(
            folded,
            out,
            _Reader(clips),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["MatMul", "Conv"],
            nodes_to_exclude=_kept_in_float(graph),
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            extra_options={"ActivationSymmetric": True, "WeightSymmetric": True, "MatMulConstBOnly": True},
        )
    finally:
        logging.getLogger().setLevel(level)


def _write_fp16(model: Path, out: Path) -> None:
    graph = _named(model)
    familiarity = [node.name for node in graph.graph.node if _of_familiarity(node)]
    half = OnnxModel(convert_float_to_float16(graph, keep_io_types=True, node_block_list=familiarity))
    half.topological_sort()  # the converter appends its casts
    onnx.save(half.model, out)


def _named(file: Path) -> onnx.ModelProto:
    """The graph of a file, with a name for every node, by which nodes can be left out."""
    model = onnx.load(file)
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"node_{number}"
    return model


def _kept_in_float(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes that are not quantised though they could be: the input layer and the familiarity."""
    first = next((node.name for node in model.graph.node if node.op_type in ("Conv", "MatMul")), "")
    return [first, *(node.name for node in model.graph.node if _of_familiarity(node))]


def _of_familiarity(node: onnx.NodeProto) -> bool:
    return any(name.startswith(FAMILIARITY) for name in node.output)


def _described(file: Path, about: ModelMetadata) -> bytes:
    graph = onnx.load(file)
    others = {prop.key: prop.value for prop in graph.metadata_props if not prop.key.startswith(PREFIX)}
    onnx.helper.set_model_props(graph, others | about.to_props())
    onnx.checker.check_model(graph, full_check=True)
    return graph.SerializeToString()
