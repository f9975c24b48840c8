"""An evaluation from model and list to report: deterministic, over every clip of the list."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from sefar_serve.engine.onnx import Device
from sefar_serve.pose import Estimator, make_estimator

from ..config import default_joints_folder
from ..data import (
    ClassTable,
    EvaluationClips,
    EvaluationJoints,
    JointCache,
    ListEntry,
    read_list,
)
from ..data.clips import Sample
from .predict import EvaluatedModel, Predictor, Scores, open_model
from .score import EvaluationError, EvaluationReport, check_labels, score
from .views import MultiViewClips, Views, average_views


def evaluate_clips(
    predict: Predictor,
    clips: EvaluationClips | EvaluationJoints,
    classes: ClassTable,
    batch_size: int = 32,
    workers: int = 0,
    progress: bool = False,
) -> EvaluationReport:
    """Predict every clip and score the predictions.

    Args:
        predict: the model.
        clips: with one or several views each; probabilities are averaged over the views of a clip.
        classes: the classes that the model predicts.
        batch_size: views per forward pass; at least 1.
        workers: threads that decode clips ahead; 0 decodes each clip when it is needed.
        progress: show a progress bar.

    Raises:
        ClipError, OSError: a clip cannot be read.
        EvaluationError: the predictions cannot be scored.
    """
    if isinstance(clips, EvaluationJoints):
        views = Views(clips.view_count)
    else:
        views = clips.views if isinstance(clips, MultiViewClips) else Views()
    found: list[Scores] = []
    labels: list[int] = []
    waiting: list[np.ndarray] = []

    def flush() -> None:
        inputs = np.concatenate(waiting)
        parts = [predict(inputs[i : i + batch_size]) for i in range(0, len(inputs), batch_size)]
        scores = (np.concatenate(kind) for kind in zip(*parts, strict=True))
        by_clip = (kind.reshape(-1, views.count, *kind.shape[1:]) for kind in scores)
        found.append(Scores(*map(average_views, by_clip)))
        waiting.clear()

    samples = _decoded(clips, workers, ahead=batch_size)
    for sample in tqdm(samples, "evaluating", len(clips), unit="clip", disable=not progress):
        inputs = sample["inputs"].numpy()
        waiting.append(inputs.reshape(views.count, *inputs.shape[-4:]))
        labels.append(sample["label"])
        if len(waiting) * views.count >= batch_size:
            flush()
    if waiting:
        flush()
    if not found:
        raise EvaluationError("there are no clips to evaluate")
    logits, mc_logits = (np.concatenate(kind) for kind in zip(*found, strict=True))
    report = score(logits, np.array(labels), classes, mc_logits)
    return report.model_copy(update={"temporal_views": views.temporal, "spatial_crops": views.spatial})


def _decoded(clips: EvaluationClips | EvaluationJoints, workers: int, ahead: int) -> Iterator[Sample]:
    """Yield the clips in order; threads decode up to `ahead` clips in advance."""
    if not workers:
        yield from (clips[index] for index in range(len(clips)))
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="sefar-decode")
    coming: deque[Future[Sample]] = deque()
    try:
        for index in range(len(clips)):
            coming.append(pool.submit(clips.__getitem__, index))
            if len(coming) > ahead:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def evaluate_model(
    model: Path,
    list_file: Path,
    root: Path,
    remap: Mapping[str, str] | None = None,
    batch_size: int = 32,
    workers: int = 0,
    progress: bool = True,
    views: Views = Views(),  # noqa: B008  (frozen)
    device: Device = "auto",
    joints: Path | None = None,
    estimator: Estimator | None = None,
) -> EvaluationReport:
    """Evaluate a checkpoint folder or an ONNX file on a list of clips.

    Args:
        model: checkpoint folder, or exported file ending in ``.onnx``.
        list_file: `path label` lines.
        root: folder that relative clip paths are joined to.
        remap: path prefix replacements.
        batch_size: views per forward pass.
        workers: threads that decode clips.
        progress: show a progress bar.
        views: views of each clip; the default is what serving does.
        device: ``auto`` uses CUDA if available.
        joints: for models that see joints, the folder that those of all clips are stored in; None for
            ``.sefar/joints`` in `root`.
        estimator: finds joints that are not stored yet; None for MediaPipe's.

    Raises:
        EvaluationError: `model` is neither, the list has labels that the model does not know, clips are missing, or
            the model was trained with another pose estimator.
        PoseSetupError: the pose models are missing and cannot be downloaded.
        JointCacheError: joints cannot be stored.
        CheckpointError, ModelLoadError: the model is damaged or not a SeFAR model.
        ListFileError: the list is malformed or empty.
        ClipError: a clip does not decode. No clip is skipped silently.
    """
    entries = read_list(list_file, root, remap)
    opened = open_model(model, device)
    check_labels([entry.label for entry in entries], len(opened.classes.labels))
    check_files(entries, list_file)
    clips: EvaluationClips | EvaluationJoints
    if opened.pixels is None:
        found_by = _same_estimator(opened, estimator or make_estimator())
        cache = JointCache(joints or default_joints_folder(root), found_by, opened.persons)
        if views.spatial != 1:
            raise EvaluationError("the model sees joints, which are not cropped; set --spatial-crops to 1")
        clips = EvaluationJoints(
            entries, opened.sampling, cache, views.temporal, progress=progress, threads=workers or None
        )
    elif views.count == 1:
        clips = EvaluationClips(entries, opened.sampling, *opened.pixels)
    else:
        clips = MultiViewClips(entries, opened.sampling, *opened.pixels, views)
    return evaluate_clips(opened.predict, clips, opened.classes, batch_size, workers, progress)


def _same_estimator(opened: EvaluatedModel, estimator: Estimator) -> Estimator:
    if opened.estimator_sha256 != estimator.sha256:
        raise EvaluationError(
            f"the model was trained with the pose estimator {opened.estimator} (SHA-256 {opened.estimator_sha256}), "
            f"but this version has {estimator.name} ({estimator.sha256}); use the version that trained it"
        )
    return estimator


def check_files(entries: Sequence[ListEntry], list_file: Path) -> None:
    """Check that all clips exist, before hours are spent on the first ones.

    Raises:
        EvaluationError: clips are missing.
    """
    missing = [entry.path for entry in entries if not entry.path.is_file()]
    if missing:
        raise EvaluationError(
            f"{len(missing)} of {len(entries)} clips of {list_file} do not exist, e.g. {missing[0]}; set the folder of "
            "the clips (--root, in recipes data.root) or replace path prefixes (--remap, in recipes data.remap)"
        )
