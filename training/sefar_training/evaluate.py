"""Deterministic evaluation of a checkpoint or of the exported ONNX file, by the same code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from torch.utils.data import DataLoader
from tqdm import tqdm

from sefar_serve.metadata import ModelMetadata

from .checkpoint import load_checkpoint
from .data import ClassTable, EvaluationClips, read_list
from .model import FrameNormalizer, SefarModel

Predictor = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""uint8 frames (B,F,H,W,3) in element order to float32 logits (B,K)."""


class EvaluationError(ValueError):
    """A list cannot be evaluated with this model."""


class EvaluationReport(BaseModel):
    """Accuracy on a list of clips; every figure is a share on [0, 1].

    Attributes:
        clips: number of clips.
        top1: the true class scores highest.
        top5: the true class is among the five highest.
        mean_class: top-1 averaged over the classes present, each weighing the same.
        attributes: for each attribute, how often the predicted class has the true class's value.
        opposite_pairs: over clips whose class has an exact opposite in time, how often the true class
            scores above its opposite; None where there is no such clip.
        opposite_clips: number of such clips.
        per_class: top-1 of each class present.
    """

    model_config = ConfigDict(frozen=True)

    clips: int
    top1: float
    top5: float
    mean_class: float
    attributes: dict[str, float]
    opposite_pairs: float | None
    opposite_clips: int
    per_class: dict[str, float]


def score(logits_NK: NDArray[np.float32], labels_N: NDArray[np.int64], classes: ClassTable) -> EvaluationReport:
    """Compare logits with labels.

    Args:
        logits_NK: class scores.
        labels_N: true classes.
        classes: attributes and opposites of the classes.

    Raises:
        EvaluationError: if a label is not one of the K classes, or there is no clip.
    """
    count, known = logits_NK.shape
    if count == 0:
        raise EvaluationError("there is no clip to evaluate")
    if labels_N.min() < 0 or labels_N.max() >= known:
        raise EvaluationError(f"the list has label {labels_N.max()}, but the model knows {known} classes")
    rows = np.arange(count)
    true = logits_NK[rows, labels_N]
    predicted = logits_NK.argmax(axis=1)
    right = predicted == labels_N
    rank = (logits_NK > true[:, None]).sum(axis=1)
    per_class = {classes.labels[c]: float(right[labels_N == c].mean()) for c in np.unique(labels_N)}

    attributes = {}
    for name in sorted({key for entry in classes.attributes for key in entry}):
        values = [entry.get(name) for entry in classes.attributes]
        same = [values[p] == values[t] for p, t in zip(predicted, labels_N, strict=True) if values[t] is not None]
        if same:
            attributes[name] = float(np.mean(same))

    above = np.array([])
    if classes.opposites:
        opposite = np.array([-1 if o is None else o for o in classes.opposites])[labels_N]
        paired = opposite >= 0
        above = true[paired] > logits_NK[rows[paired], opposite[paired]]
    return EvaluationReport(
        clips=count,
        top1=float(right.mean()),
        top5=float((rank < 5).mean()),
        mean_class=float(np.mean(list(per_class.values()))),
        attributes=attributes,
        opposite_pairs=float(above.mean()) if len(above) else None,
        opposite_clips=len(above),
        per_class=per_class,
    )


def torch_predictor(model: SefarModel, normalizer: FrameNormalizer, device: torch.device) -> Predictor:
    """Predict with a torch model, in eval mode and float32; the model's mode is put back after each batch."""

    def predict(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        was_training = model.training
        model.eval()
        with torch.inference_mode():
            logits = model(normalizer(torch.from_numpy(frames).to(device))).logits
        model.train(was_training)
        return logits.float().cpu().numpy()

    return predict


def onnx_predictor(file: Path) -> tuple[Predictor, ModelMetadata]:
    """Predict with an exported file on the CPU; also returns what it says about itself."""
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    metadata = ModelMetadata.from_props(session.get_modelmeta().custom_metadata_map, str(file))

    def predict(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = session.run(["logits"], {"frames": frames})[0]
        return logits

    return predict, metadata


def evaluate_clips(
    predict: Predictor,
    clips: EvaluationClips,
    classes: ClassTable,
    batch_size: int = 32,
    workers: int = 0,
    progress: bool = False,
) -> EvaluationReport:
    """Predict every clip and score the predictions."""
    loader = DataLoader(clips, batch_size, num_workers=workers, multiprocessing_context="fork" if workers else None)
    logits, labels = [], []
    for batch in tqdm(loader, desc="evaluating", disable=not progress):
        logits.append(predict(batch["frames"].numpy()))
        labels.append(batch["label"].numpy())
    return score(np.concatenate(logits), np.concatenate(labels), classes)


def evaluate_model(
    model: Path,
    list_file: Path,
    root: Path,
    remap: Mapping[str, str] | None = None,
    batch_size: int = 32,
    workers: int = 0,
    progress: bool = True,
) -> EvaluationReport:
    """Evaluate a checkpoint folder or an ONNX file on a list of clips.

    Args:
        model: checkpoint folder, or exported file ending in ``.onnx``.
        list_file: `path label` lines.
        root: folder that relative clip paths are joined to.
        remap: path prefix replacements.
        batch_size: clips a forward pass.
        workers: processes decoding clips.
        progress: show a bar.

    Raises:
        CheckpointError, MetadataError: if `model` is neither.
        ListFileError: if the list is malformed.
        ClipError: if a clip does not decode; nothing is left out of an evaluation silently.
        EvaluationError: if the list has labels the model does not know.
    """
    if model.suffix == ".onnx":
        predict, about = onnx_predictor(model)
        classes = ClassTable(about.labels, about.attributes, about.opposites)
        sampling, resize, size = about.sampling, about.resize, about.size
    else:
        loaded, info = load_checkpoint(model)
        config = info.model
        predict = torch_predictor(loaded, FrameNormalizer(config.mean, config.std), torch.device("cpu"))
        classes, sampling, resize, size = info.classes, config.sampling, config.resize, config.size
    clips = EvaluationClips(read_list(list_file, root, remap), sampling, resize, size)
    return evaluate_clips(predict, clips, classes, batch_size, workers, progress)
