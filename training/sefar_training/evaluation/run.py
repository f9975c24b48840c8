"""An evaluation from model and list to report: deterministic, over every clip of the list."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from sefar_serve.clip import ClipError
from sefar_serve.engine.loaded import Device
from sefar_serve.pose import Estimator

from ..data import ClassTable, read_list
from ..data.clips import Sample
from .clips import ModelClips, open_clips, views_of
from .predict import Predictor, Scores, open_model
from .score import EvaluationError, EvaluationReport, check_labels, score
from .views import Views, average_views


def predict_clips(
    predict: Predictor,
    clips: ModelClips,
    batch_size: int = 32,
    workers: int = 0,
    progress: bool = False,
    only: Sequence[int] | None = None,
    skip_broken: bool = False,
) -> tuple[Scores, NDArray[np.int64]]:
    """Predict every clip.

    Args:
        predict: the model.
        clips: with one or several views each; probabilities are averaged over the views of a clip.
        batch_size: views per forward pass; at least 1.
        workers: threads that decode clips ahead; 0 decodes each clip when it is needed.
        progress: show a progress bar.
        only: numbers of the clips to predict; None for all.
        skip_broken: leave out clips that cannot be read.

    Returns:
        The scores of all N clips, and their labels, int64 (N,).

    Raises:
        ClipError, OSError: a clip cannot be read.
        EvaluationError: there are no clips.
    """
    views = views_of(clips)
    found: list[Scores] = []
    labels: list[int] = []
    waiting: list[list[np.ndarray]] = []

    def flush() -> None:
        inputs = [np.concatenate(kind) for kind in zip(*waiting, strict=True)]
        parts = [predict(*(kind[i : i + batch_size] for kind in inputs)) for i in range(0, len(inputs[0]), batch_size)]
        scores = (np.concatenate(kind) for kind in zip(*parts, strict=True))
        logits, mc_logits, tokens = (kind.reshape(-1, views.count, *kind.shape[1:]) for kind in scores)
        found.append(Scores(average_views(logits), average_views(mc_logits), tokens.mean(axis=1)))
        waiting.clear()

    chosen = range(len(clips)) if only is None else only
    samples = _decoded(clips, chosen, workers, ahead=batch_size, skip_broken=skip_broken)
    for sample in tqdm(samples, "evaluating", len(chosen), unit="clip", disable=not progress):
        if sample is None:
            continue
        given = sample["inputs"]
        inputs = [kind.numpy() for kind in (given if isinstance(given, tuple) else (given,))]
        waiting.append([kind.reshape(views.count, *kind.shape[-4:]) for kind in inputs])
        labels.append(sample["label"])
        if len(waiting) * views.count >= batch_size:
            flush()
    if waiting:
        flush()
    if not found:
        raise EvaluationError("there are no clips to evaluate")
    return Scores(*(np.concatenate(kind) for kind in zip(*found, strict=True))), np.array(labels)


def evaluate_clips(
    predict: Predictor,
    clips: ModelClips,
    classes: ClassTable,
    batch_size: int = 32,
    workers: int = 0,
    progress: bool = False,
) -> EvaluationReport:
    """Predict every clip and score the predictions.

    Args:
        predict: the model.
        clips: see `predict_clips`.
        classes: the classes that the model predicts.
        batch_size: views per forward pass; at least 1.
        workers: threads that decode clips ahead; 0 decodes each clip when it is needed.
        progress: show a progress bar.

    Raises:
        ClipError, OSError: a clip cannot be read.
        EvaluationError: the predictions cannot be scored.
    """
    found, labels = predict_clips(predict, clips, batch_size, workers, progress)
    report = score(found.logits, labels, classes, found.mc_logits)
    views = views_of(clips)
    return report.model_copy(update={"temporal_views": views.temporal, "spatial_crops": views.spatial})


def _decoded(
    clips: ModelClips, chosen: Sequence[int], workers: int, ahead: int, skip_broken: bool
) -> Iterator[Sample | None]:
    """Yield the clips in order, None for those skipped; threads decode up to `ahead` clips in advance."""

    def decode(index: int) -> Sample | None:
        try:
            return clips[index]
        except (ClipError, OSError):
            if not skip_broken:
                raise
            return None

    if not workers:
        yield from map(decode, chosen)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="sefar-decode")
    coming: deque[Future[Sample | None]] = deque()
    try:
        for index in chosen:
            coming.append(pool.submit(decode, index))
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
        joints: for models that see joints, a folder of joints, see `open_joints`; None for ``.sefar/joints`` in
            `root`.
        estimator: finds joints that are not stored yet; None for MediaPipe's.

    Raises:
        EvaluationError: `model` is neither, the list has labels that the model does not know, or the model was trained
            with another pose estimator.
        MissingClipsError: clips do not exist.
        PoseSetupError: the pose models are missing and cannot be downloaded.
        JointCacheError, StoredJointsError: joints cannot be stored, or stored ones are not those that are needed.
        CheckpointError, ModelLoadError: the model is damaged or not a SeFAR model.
        ListFileError: the list is malformed or empty.
        ClipError: a clip does not decode. No clip is skipped silently.
    """
    entries = read_list(list_file, root, remap)
    opened = open_model(model, device)
    check_labels([entry.label for entry in entries], len(opened.classes.labels))
    clips = open_clips(
        opened,
        entries,
        list_file,
        root,
        views,
        joints=joints,
        estimator=estimator,
        threads=workers or None,
        progress=progress,
    )
    return evaluate_clips(opened.predict, clips, opened.classes, batch_size, workers, progress)
