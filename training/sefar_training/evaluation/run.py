"""An evaluation from model and list to report: nothing at random, nothing left out."""

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
        clips: with one view or several; those of one clip are averaged as probabilities.
        classes: what the model tells apart.
        batch_size: pictures of clips a forward pass; at least 1.
        workers: threads decoding clips ahead; 0: each is decoded when its turn comes.
        progress: show a bar.

    Raises:
        ClipError, OSError: if a clip cannot be read.
        EvaluationError: if the predictions cannot be judged.
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
        raise EvaluationError("there is no clip to evaluate")
    logits, mc_logits = (np.concatenate(kind) for kind in zip(*found, strict=True))
    report = score(logits, np.array(labels), classes, mc_logits)
    return report.model_copy(update={"temporal_views": views.temporal, "spatial_crops": views.spatial})


def _decoded(clips: EvaluationClips, workers: int, ahead: int) -> Iterator[Sample]:
    """The clips in order, decoded by threads up to `ahead` of them before they are asked for."""
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
        batch_size: clips a forward pass.
        workers: threads decoding clips.
        progress: show a bar.
        views: looks at each clip; the default is exactly what serving does.
        device: ``auto`` takes CUDA where there is one.

    Raises:
        EvaluationError: if `model` is neither, the list has labels the model does not know, or clips are not there.
        CheckpointError, ModelLoadError: if the model is damaged or not ours.
        ListFileError: if the list is malformed or empty.
        ClipError: if a clip does not decode; nothing is left out of an evaluation silently.
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
    """Tell at once, not after an hour, that clips are not there.

    Raises:
        EvaluationError: if any is missing.
    """
    missing = [entry.path for entry in entries if not entry.path.is_file()]
    if missing:
        raise EvaluationError(
            f"{len(missing)} of {len(entries)} clips of {list_file} are not there, e.g. {missing[0]}; "
            "--root and --remap say where clips are"
        )
