"""An evaluation from model and list to report: deterministic, over every clip of the list."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from sefar_serve.engine.onnx import Device

from ..data import ClassTable, EvaluationClips, ListEntry, read_list
from ..data.clips import Sample
from .predict import Predictor, Scores, open_model
from .score import EvaluationError, EvaluationReport, check_labels, score
from .views import MultiViewClips, Views, average_views


def evaluate_clips(
    predict: Predictor,
    clips: EvaluationClips,
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
    views = clips.views if isinstance(clips, MultiViewClips) else Views()
    found: list[Scores] = []
    labels: list[int] = []
    waiting: list[np.ndarray] = []

    def flush() -> None:
        frames = np.concatenate(waiting)
        parts = [predict(frames[i : i + batch_size]) for i in range(0, len(frames), batch_size)]
        scores = (np.concatenate(kind) for kind in zip(*parts, strict=True))
        by_clip = (kind.reshape(-1, views.count, *kind.shape[1:]) for kind in scores)
        found.append(Scores(*map(average_views, by_clip)))
        waiting.clear()

    samples = _decoded(clips, workers, ahead=batch_size)
    for sample in tqdm(samples, "evaluating", len(clips), unit="clip", disable=not progress):
        frames = sample["frames"].numpy()
        waiting.append(frames.reshape(views.count, *frames.shape[-4:]))
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


def _decoded(clips: EvaluationClips, workers: int, ahead: int) -> Iterator[Sample]:
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

    Raises:
        EvaluationError: `model` is neither, the list has labels that the model does not know, or clips are missing.
        CheckpointError, ModelLoadError: the model is damaged or not a SeFAR model.
        ListFileError: the list is malformed or empty.
        ClipError: a clip does not decode. No clip is skipped silently.
    """
    entries = read_list(list_file, root, remap)
    opened = open_model(model, device)
    check_labels([entry.label for entry in entries], len(opened.classes.labels))
    check_files(entries, list_file)
    clips = (
        EvaluationClips(entries, opened.sampling, opened.resize, opened.size)
        if views.count == 1
        else MultiViewClips(entries, opened.sampling, opened.resize, opened.size, views)
    )
    return evaluate_clips(opened.predict, clips, opened.classes, batch_size, workers, progress)


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
