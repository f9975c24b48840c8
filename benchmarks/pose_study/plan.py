"""Which runs the study makes, and how settings are chosen from runs that never see a test fold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import balanced_accuracy_score

from sefar_training.fusion.weight import try_weights

from .clips import ALL, ClipSet
from .linear import PICTURE_SETTINGS
from .results import Results, Run
from .trained import GRAPH_SETTINGS, OURS

BOTH = "both"
FUSED = ("pose", "rgb")
"""What `BOTH` fuses; it has no runs of its own."""

METHODS = ("lr", "rgb", "stgcn", *OURS, BOTH)

SETTINGS = {"rgb": PICTURE_SETTINGS, "stgcn": GRAPH_SETTINGS}
"""What methods choose between."""

CHOOSING_DRAWS = {"rgb": 2, "stgcn": 1, "pose": 1}
"""Draws for each pair of folds in runs that choose settings."""

CHOOSING_COUNT = {"stgcn": 10}
"""Labels a class in these runs, if not those of the reported ones: ST-GCN++ takes long, and its accuracy hardly depends
on the learning rate."""

LEAST = 1e-5
"""Smallest probability of a class."""


def can_run(method: str, count: int) -> bool:
    """Whether a method makes sense: pseudo-labels need clips without labels."""
    return count != ALL or method not in OURS or OURS[method].method == "supervised"


def with_parts(methods: Sequence[str]) -> list[str]:
    """The methods that have runs, in the order given; `BOTH` needs those that it fuses."""
    wanted = [*methods, *(FUSED if BOTH in methods else ())]
    return [method for method in dict.fromkeys(wanted) if method != BOTH]


def choosing_runs(clips: ClipSet, method: str, count: int, recipe: str, fuse: bool) -> Iterator[Run]:
    """Runs that leave out two folds. Each serves both: the one is the test fold, and the other judges the setting.

    Args:
        clips: the set.
        method: has to choose settings or to be fused; any other needs no such runs.
        count: labels a class of the reported runs.
        recipe: what of the recipe the method depends on.
        fuse: whether `BOTH` is wanted.
    """
    if method in SETTINGS or (fuse and method in FUSED):
        count = CHOOSING_COUNT.get(method, count)
        for pair in combinations(clips.fold_numbers, 2):
            for draw in range(1 if count == ALL else CHOOSING_DRAWS[method]):
                for setting in SETTINGS.get(method, ("",)):
                    yield Run(method, count, pair, draw, setting, recipe)


def reported_runs(
    clips: ClipSet, method: str, count: int, draws: int, recipe: str, settings: Mapping[int, str]
) -> Iterator[Run]:
    """Runs that leave out one fold, with the setting that was chosen for it."""
    for fold in clips.fold_numbers:
        for draw in range(1 if count == ALL else draws):
            yield Run(method, count, (fold,), draw, settings.get(fold, ""), recipe)


def choose_settings(clips: ClipSet, results: Results, method: str, count: int, recipe: str) -> dict[int, str]:
    """The best setting for each test fold, from runs without that fold; empty if the method has none."""
    chosen: dict[int, str] = {}
    if method in SETTINGS:
        runs = list(choosing_runs(clips, method, count, recipe, fuse=False))
        for fold in clips.fold_numbers:
            scores: dict[str, list[float]] = {}
            for run in runs:
                if fold in run.held:
                    other = _other(run, fold)
                    found = results[run].predicted(clips, run, other)
                    scores.setdefault(run.setting, []).append(accuracy(clips, other, found))
            chosen[fold] = max(scores, key=lambda setting: float(np.mean(scores[setting])))
    return chosen


def choose_weights(
    clips: ClipSet, results: Results, count: int, recipes: Mapping[str, str], settings: Mapping[int, str]
) -> dict[int, float]:
    """The weight of the joints for each test fold, as `sefar_training.fusion` chooses it: from the other folds.

    Args:
        clips: the set.
        results: with all runs that leave out two folds.
        count: labels a class.
        recipes: what of the recipe each method depends on.
        settings: of `rgb`, chosen for each test fold.
    """
    chosen: dict[int, float] = {}
    joints, pictures = FUSED
    for fold in clips.fold_numbers:
        found: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []
        labels: list[NDArray[np.int64]] = []
        for run in choosing_runs(clips, joints, count, recipes[joints], fuse=True):
            if fold in run.held:
                beside = Run(pictures, count, run.held, run.draw, settings[fold], recipes[pictures])
                other = _other(run, fold)
                found.append((_scores(results, clips, beside, other), _scores(results, clips, run, other)))
                labels.append(clips.labels[clips.folds == other])
        by_weight = try_weights(*map(np.concatenate, zip(*found, strict=True)), np.concatenate(labels))
        chosen[fold] = min(by_weight, key=lambda weight: by_weight[weight])
    return chosen


def scores(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities, which are stored with four digits, as scores that can be fused."""
    return np.log(np.maximum(probabilities, LEAST))


def _scores(results: Results, clips: ClipSet, run: Run, fold: int) -> NDArray[np.float64]:
    return scores(results[run].predicted(clips, run, fold))


def accuracy(clips: ClipSet, fold: int, probabilities: NDArray[np.float64]) -> float:
    """Balanced accuracy on a fold."""
    return float(balanced_accuracy_score(clips.labels[clips.folds == fold], probabilities.argmax(axis=1)))


def _other(run: Run, fold: int) -> int:
    [other] = set(run.held) - {fold}
    return other
