"""`sefar calibrate`: calibrate a checkpoint or an exported file that exists already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray

from sefar_serve.atomic import atomic_file
from sefar_serve.engine.loaded import Device
from sefar_serve.engine.onnx import OnnxModel
from sefar_serve.lists import read_list
from sefar_serve.metadata import OUTPUT_NAMES
from sefar_serve.pose import Estimator

from ..checkpoint import load_checkpoint, save_checkpoint
from ..evaluation import EvaluationError, open_clips, open_model, predict_clips
from ..evaluation.score import check_labels
from ..export import check_parity, with_familiarity
from ..familiarity import add_familiarity
from ..typical import Typical, fit_typical
from .run import mean_tokens
from .temperature import fit_temperature, with_temperature


@dataclass(frozen=True)
class CalibrationReport:
    """What was calibrated.

    Attributes:
        path: the checkpoint folder or file that was written.
        typical: what its familiarity is computed from.
        temperature: what the class scores are divided by; None for exported files, whose scores stay as they are.
        differences: for exported files, the largest difference of each output from what it should be.
    """

    path: Path
    typical: Typical
    temperature: float | None = None
    differences: Mapping[str, float] | None = None

    def __str__(self) -> str:
        info = self.typical.info
        text = (
            f"{self.path}: familiarity by {info.method} of {info.clips} training clips against {info.held_out} held out"
        )
        return text if self.temperature is None else f"{text}; temperature {self.temperature:.3g}"


def calibrate_file(
    model: Path,
    train: Path,
    val: Path,
    root: Path,
    out: Path | None = None,
    *,
    remap: Mapping[str, str] | None = None,
    joints: Path | None = None,
    estimator: Estimator | None = None,
    device: Device = "auto",
    workers: int = 0,
    progress: bool = True,
) -> CalibrationReport:
    """Calibrate a checkpoint folder, or add the familiarity to an exported file, whose weights do not change.

    Args:
        model: checkpoint folder, or exported file ending in ``.onnx``.
        train: list of the clips that the model was trained on, or a part of them.
        val: list of clips that it was not trained on.
        root: folder that relative clip paths are joined to.
        out: for exported files, the file to write; None replaces the file.
        remap: path prefix replacements.
        joints: folder of joints, see `open_joints`.
        estimator: finds joints that are not stored yet; None for MediaPipe's.
        device: where the model runs.
        workers: threads that decode clips.
        progress: show progress bars.

    Raises:
        EvaluationError: `model` is neither, `out` is given for a checkpoint, or the lists do not fit the model.
        TypicalError: there are too few clips.
        ParityError: the new file disagrees with the old one. No file is written.
        CheckpointError, ModelLoadError, ListFileError, ClipError, PoseSetupError: see `evaluate_model`.
    """
    opened = open_model(model, device)
    if out is not None and model.is_dir():
        raise EvaluationError("--out is for exported files; a checkpoint is calibrated in its folder")
    lists = {file: read_list(file, root, remap) for file in (train, val)}
    check_labels([entry.label for entry in lists[val]], len(opened.classes.labels))
    clips = {
        file: open_clips(
            opened, entries, file, root, joints=joints, estimator=estimator, threads=workers or None, progress=progress
        )
        for file, entries in lists.items()
    }
    reference = mean_tokens(opened.predict, clips[train], workers)
    held_out, labels = predict_clips(opened.predict, clips[val], workers=workers, progress=progress)
    typical = fit_typical(reference, held_out.mean_tokens)
    if not model.is_dir():
        return _extend(model, typical, out or model)
    trained, info = load_checkpoint(model)
    before = info.temperature or 1.0
    temperature = fit_temperature(held_out.logits * before, labels)
    info = info.model_copy(update={"temperature": temperature})
    save_checkpoint(model, with_temperature(trained, temperature / before), info, typical)
    return CalibrationReport(model, typical, info.temperature)


def _extend(file: Path, typical: Typical, out: Path) -> CalibrationReport:
    """Add the familiarity to an exported file."""
    old = OnnxModel(file, device="cpu")
    metadata = old.metadata.model_copy(update={"familiarity": typical.info})

    def outputs(inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        found = old.run(inputs)
        return [getattr(found, name) for name in OUTPUT_NAMES]

    proto = onnx.load(file)
    try:
        add_familiarity(proto, typical, metadata)
    except ValueError as error:
        raise EvaluationError(f"{file}: {error}") from error
    serialized = proto.SerializeToString()
    differences = check_parity(serialized, with_familiarity(outputs, typical), metadata.inputs)
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(out) as new:
        new.write_bytes(serialized)
    return CalibrationReport(out, typical, differences=differences)
