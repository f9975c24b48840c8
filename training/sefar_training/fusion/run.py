"""From two models and a validation list to one file: choose the weight, join, check, write, report."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from sefar_serve.atomic import atomic_file
from sefar_serve.engine.loaded import Device
from sefar_serve.pose import Estimator

from ..data import ClassTable, read_list
from ..evaluation import EvaluationError, open_clips, open_model, predict_clips, score
from ..evaluation.score import check_labels
from ..export import check_parity, export_checkpoint
from .choice import check_lists
from .join import Pair
from .weight import fuse_logits, negative_log_likelihood, try_weights


class Figures(BaseModel):
    """How well a model predicts a list of clips.

    Attributes:
        accuracy: share of right answers.
        balanced_accuracy: the same, averaged over the classes in the list.
        nll: mean negative log-likelihood of the true class, in nats.
    """

    model_config = ConfigDict(frozen=True)

    accuracy: float
    balanced_accuracy: float
    nll: float


class ListFigures(BaseModel):
    """A list of clips, predicted by each stream alone and by both.

    Attributes:
        file: the list.
        clips: its clips.
        pose: the model of joints alone.
        rgb: the model of frames alone.
        both: the two, fused.
    """

    model_config = ConfigDict(frozen=True)

    file: str
    clips: int
    pose: Figures
    rgb: Figures
    both: Figures


class FusionReport(BaseModel):
    """What was joined, and how well it predicts.

    Attributes:
        model: the file written.
        rgb: the model of frames.
        pose: the model of joints.
        pose_weight: w, chosen on `val`.
        nll_by_weight: negative log-likelihood on `val` for each weight tried.
        val: figures on the list that w was chosen on; those of `both` are therefore slightly too good.
        test: figures on a list that had no part in the choice, or None.
        differences: for each output the largest difference from what the two models give.
    """

    model_config = ConfigDict(frozen=True)

    model: str
    rgb: str
    pose: str
    pose_weight: float
    nll_by_weight: dict[str, float]
    val: ListFigures
    test: ListFigures | None
    differences: dict[str, float]


def fuse(
    rgb: Path,
    pose: Path,
    out: Path,
    val: Path,
    root: Path,
    *,
    test: Path | None = None,
    name: str | None = None,
    version: str = "1",
    remap: Mapping[str, str] | None = None,
    joints: Path | None = None,
    estimator: Estimator | None = None,
    device: Device = "auto",
    batch_size: int = 32,
    workers: int = 0,
    progress: bool = True,
) -> FusionReport:
    """Join two models, with the weight that predicts a validation list best.

    Args:
        rgb: checkpoint folder or exported file of a model of frames.
        pose: checkpoint folder or exported file of a model of joints.
        out: the ONNX file to write; its folder is created if missing.
        val: list file to choose the weight of the pose stream on.
        root: folder that relative clip paths are joined to.
        test: list file to measure both models and their fusion on, or None.
        name: the name that clients pass as `model`; None for ``sefar-<data set>-both``.
        version: version of the weights.
        remap: path prefix replacements.
        joints: folder of joints, see `open_joints`; None for ``.sefar/joints`` in `root`.
        estimator: finds joints that are not stored yet; None for MediaPipe's.
        device: where the models run; ``auto`` uses CUDA if available.
        batch_size: clips per forward pass.
        workers: threads that decode clips.
        progress: show progress bars.

    Raises:
        FusionError: the models do not fit each other, the lists share clips, or a model was trained on clips of `val`.
        ParityError: the fused file disagrees with the two models. No file is written.
        CheckpointError, ModelLoadError: a model is damaged or not a SeFAR model.
        EvaluationError, ListFileError, ClipError, JointCacheError, PoseSetupError: see `evaluate_model`.
    """
    lists = {file: read_list(file, root, remap) for file in (val, test) if file is not None}
    check_lists(lists, val, test, (rgb, pose))
    with tempfile.TemporaryDirectory() as folder:
        pair = Pair(*(_exported(model, Path(folder) / f"{n}.onnx") for n, model in enumerate((rgb, pose))))
        streams = [open_model(model.path, device) for model in (pair.rgb, pair.pose)]
        classes = streams[0].classes
        for entries in lists.values():
            check_labels([entry.label for entry in entries], len(classes.labels))

        # Opened before anything is predicted, so that what is missing is reported at once.
        opened = {
            file: [
                open_clips(
                    model,
                    entries,
                    file,
                    root,
                    joints=joints,
                    estimator=estimator,
                    threads=workers or None,
                    progress=progress,
                )
                for model in streams
            ]
            for file, entries in lists.items()
        }
        found = {
            file: Predicted(
                *(
                    predict_clips(model.predict, clips, batch_size, workers, progress)[0].logits
                    for model, clips in zip(streams, opened[file], strict=True)
                ),
                np.array([entry.label for entry in entries]),
            )
            for file, entries in lists.items()
        }
        tried = try_weights(*found[val])
        weight = min(tried, key=lambda w: tried[w])
        differences = write_joined(pair, weight, out, name, version)
    return FusionReport(
        model=str(out),
        rgb=str(rgb),
        pose=str(pose),
        pose_weight=weight,
        nll_by_weight={f"{w:g}": nll for w, nll in tried.items()},
        val=_figures(val, found[val], weight, classes),
        test=None if test is None else _figures(test, found[test], weight, classes),
        differences=differences,
    )


def write_joined(pair: Pair, weight: float, out: Path, name: str | None = None, version: str = "1") -> dict[str, float]:
    """Join two models with a weight, check the graph against both, and write it.

    Args:
        pair: the models.
        weight: of the model of joints, in [0, 1].
        out: the ONNX file to write; its folder is created if missing.
        name: the name that clients pass as `model`; None for ``sefar-<data set>-both``.
        version: version of the weights.

    Returns:
        For each output the largest difference from what the two models give.

    Raises:
        FusionError: they use different versions of ONNX's operators.
        ParityError: the graph disagrees with the two models. No file is written.
    """
    metadata = pair.metadata(weight, name, version)
    serialized = pair.graph(metadata).SerializeToString()
    differences = check_parity(serialized, lambda inputs: pair.outputs(weight, inputs), metadata.inputs)
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(out) as new:
        new.write_bytes(serialized)
    return differences


class Predicted(NamedTuple):
    """The scores of both streams for the N clips of a list, (N,K), and their labels, int64 (N,)."""

    rgb: NDArray[np.float32]
    pose: NDArray[np.float32]
    labels: NDArray[np.int64]


def _figures(file: Path, found: Predicted, weight: float, classes: ClassTable) -> ListFigures:
    def measured(logits: NDArray[Any]) -> Figures:
        report = score(np.asarray(logits, np.float32), found.labels, classes)
        nll = negative_log_likelihood(logits, found.labels)
        return Figures(accuracy=report.top1, balanced_accuracy=report.mean_class, nll=nll)

    return ListFigures(
        file=str(file),
        clips=len(found.labels),
        pose=measured(found.pose),
        rgb=measured(found.rgb),
        both=measured(fuse_logits(found.rgb, found.pose, weight)),
    )


def _exported(model: Path, file: Path) -> Path:
    """The exported file of a model; a checkpoint folder is exported to `file`."""
    if not model.exists():
        raise EvaluationError(f"{model} does not exist; give a checkpoint folder or an .onnx file")
    if model.is_file():
        return model
    return export_checkpoint(model, file).path
