"""Measures how much the first frame alone tells about the class: a model may learn the place instead of the action."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from .look import HEIGHT, WIDTH, ClipLook, pictures_of
from .split import Folds, Indices

MOST = 2000
"""Most clips that are used; of more, as many are drawn."""

ABOVE = 0.15
"""What is well above chance: by this much at least, and by three standard errors."""

BORDER = 6
"""Width of the border strip, in pixels of the 64×48 picture: where watermarks and captions are."""


@dataclass(frozen=True)
class LeakProbe:
    """What a simple classifier reaches that sees one small still picture of each clip.

    Balanced accuracies in [0,1], by cross-validation.

    Attributes:
        clips: number of clips.
        chance: of guessing.
        same_places: on clips drawn at random; None if it cannot be measured.
        new_places: on groups that were left out; None if it cannot be measured.
        border: on clips drawn at random, seeing the border strip alone; None if it cannot be measured.
        margin: three standard errors of these figures.
    """

    clips: int
    chance: float
    same_places: float | None
    new_places: float | None
    border: float | None
    margin: float

    def tells(self, figure: float | None) -> bool:
        """Whether a figure is well above chance."""
        return figure is not None and figure > self.chance + max(ABOVE, self.margin)


def probe_leaks(looks: Sequence[ClipLook], labels: Indices, folds: Folds, seed: int = 0) -> LeakProbe | None:
    """Try to tell the classes by first frames.

    Args:
        looks: usable clips.
        labels: int64 (N,).
        folds: of the clips; those in no fold are left out.
        seed: of the draws.

    Returns:
        The figures; None if there are fewer than two classes with two clips each.
    """
    members = np.flatnonzero(folds.same_places >= 0)
    classes, counts = np.unique(labels[members], return_counts=True)
    members = members[np.isin(labels[members], classes[counts >= 2])]
    members = np.sort(np.random.default_rng(seed).permutation(members)[:MOST])
    k = len(np.unique(labels[members]))
    if k < 2:
        return None
    pictures = [first for first, _ in pictures_of([looks[i] for i in members.tolist()])]
    whole = np.array([_features(picture) for picture in pictures])
    border = np.array([_border(picture) for picture in pictures])
    y = labels[members]
    return LeakProbe(
        len(members),
        1 / k,
        _accuracy(whole, y, folds.same_places[members]),
        _accuracy(whole, y, folds.new_places[members]) if folds.count else None,
        _accuracy(border, y, folds.same_places[members]),
        3 * float(np.sqrt((1 / k) * (1 - 1 / k) / len(members))),
    )


def _features(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A tiny picture and the shares of its colours."""
    lab = cv2.cvtColor(picture, cv2.COLOR_RGB2LAB)
    small = cv2.resize(lab, (16, 12), interpolation=cv2.INTER_AREA).ravel() / 255
    colours = cv2.calcHist([lab], [0, 1, 2], None, [4, 8, 8], [0, 256] * 3).ravel()
    return np.asarray(np.concatenate([small, np.sqrt(colours / colours.sum())]), np.float32)


def _border(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    inside = np.zeros((HEIGHT, WIDTH), bool)
    inside[BORDER:-BORDER, BORDER:-BORDER] = True
    return np.asarray(picture[~inside].reshape(-1, 2, 3).mean(1).ravel() / 255, np.float32)


def _accuracy(features: NDArray[np.float32], labels: Indices, folds: Indices) -> float | None:
    """Balanced accuracy over all folds; clips of a class that the other folds do not have count as wrong."""
    predicted = np.full(len(labels), -1, np.int64)
    for fold in np.unique(folds):
        train, test = folds != fold, folds == fold
        if len(np.unique(labels[train])) < 2:
            continue
        size = min(64, int(train.sum()) - 1, features.shape[1])
        model = make_pipeline(
            StandardScaler(),
            PCA(size, svd_solver="full"),
            LogisticRegression(C=0.1, class_weight="balanced", max_iter=300),
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # close is good enough for a probe
            model.fit(features[train], labels[train])
        predicted[test] = model.predict(features[test])
    if (predicted < 0).all():
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # -1 is not a class
        return float(balanced_accuracy_score(labels, predicted))
