"""Finished runs, put together: what a method predicts for every clip, each time from folds without it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import recall_score

from sefar_training.fusion.weight import fuse_logits

from .clips import ClipSet
from .plan import (
    BOTH,
    FUSED,
    accuracy,
    choose_settings,
    choose_weights,
    choosing_runs,
    reported_runs,
    scores,
)
from .results import Results


@dataclass(frozen=True)
class Judged:
    """A method with n labels a class.

    Attributes:
        predicted: probabilities (n,K) of the clips of each fold, for each draw.
        settings: chosen for each fold, as text; empty if there is nothing to choose.
        seconds: mean CPU time of a run; None if it has no runs of its own.
    """

    predicted: Mapping[int, list[NDArray[np.float64]]]
    settings: Mapping[int, str]
    seconds: float | None

    def accuracies(self, clips: ClipSet) -> list[float]:
        """Balanced accuracy of each fold in per cent, the mean over draws."""
        return [
            100 * float(np.mean([accuracy(clips, fold, found) for found in draws]))
            for fold, draws in self.predicted.items()
        ]

    def recalls(self, clips: ClipSet) -> NDArray[np.float64]:
        """Recall of each class (K,) in per cent, over the clips of all folds; the mean over draws."""
        rounds = []
        for draw in range(min(len(draws) for draws in self.predicted.values())):
            answers = np.empty(len(clips.labels), np.int64)
            for fold, draws in self.predicted.items():
                answers[clips.folds == fold] = draws[draw].argmax(axis=1)
            rounds.append(recall_score(clips.labels, answers, average=None))
        return 100 * np.mean(rounds, axis=0)


def judge(
    clips: ClipSet, results: Results, method: str, count: int, draws: int, recipes: Mapping[str, str]
) -> Judged | None:
    """Put the runs of a method together; None if some are not done.

    Args:
        clips: the set.
        results: of finished runs.
        method: one of `plan.METHODS`.
        count: labels a class.
        draws: reported draws of each fold.
        recipes: what of the recipe each method depends on.
    """
    if method == BOTH:
        return _judge_both(clips, results, count, draws, recipes)
    recipe = recipes[method]
    if any(run not in results for run in choosing_runs(clips, method, count, recipe, fuse=False)):
        return None
    settings = choose_settings(clips, results, method, count, recipe)
    runs = list(reported_runs(clips, method, count, draws, recipe, settings))
    if any(run not in results for run in runs):
        return None
    predicted: dict[int, list[NDArray[np.float64]]] = {}
    for run in runs:
        predicted.setdefault(run.held[0], []).append(results[run].probabilities)
    return Judged(predicted, settings, float(np.mean([results[run].seconds for run in runs])))


def _judge_both(clips: ClipSet, results: Results, count: int, draws: int, recipes: Mapping[str, str]) -> Judged | None:
    a, b = (judge(clips, results, method, count, draws, recipes) for method in FUSED)
    choosing = choosing_runs(clips, FUSED[0], count, recipes[FUSED[0]], fuse=True)
    if a is None or b is None or any(run not in results for run in choosing):
        return None
    weights = choose_weights(clips, results, count, recipes, b.settings)
    predicted = {
        fold: [
            np.exp(fuse_logits(scores(pictures), scores(joints), weight))
            for joints, pictures in zip(a.predicted[fold], b.predicted[fold], strict=True)
        ]
        for fold, weight in weights.items()
    }
    return Judged(predicted, {fold: f"weight of joints {weight:g}" for fold, weight in weights.items()}, None)
