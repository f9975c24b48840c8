"""Logistic regression on the principal components of features."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from sefar_serve.errors import SefarError

from ..model import EMBEDDING_DIM

Floats = NDArray[np.floating]

GRID = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
"""Values of C to choose between."""

INNER_FOLDS = 5


@dataclass(frozen=True)
class FitSettings:
    """Settings of a fit.

    Attributes:
        c: weight of the loss of all clips against the penalty.
        frames: number of frames F that the features of a clip are made of, one after another.
        motion: each frame's deviation from the mean of its clip is multiplied by this. 1 changes nothing; above, the
            penalty falls less on what changes within a clip than on what clips differ in, such as place and person.
    """

    c: float = 30.0
    frames: int = 1
    motion: float = 1.0


SPREAD = np.linalg.qr(np.random.default_rng(20250101).normal(size=(EMBEDDING_DIM, EMBEDDING_DIM)))[0]
"""A fixed rotation. Principal components differ in size, so dropout would hit or miss the few large ones; after it, all
256 numbers of an embedding matter alike."""

ABSENT = -20.0
"""Score of a class without training clips, below the lowest of the others."""


class LinearFitError(SefarError, ValueError):
    """Logistic regression cannot be fitted to these labels."""


@dataclass(frozen=True)
class LinearFit:
    """A fitted model: features are projected to an embedding, which has linear class scores.

    Attributes:
        projection: float64 (256,D); the principal components of the training clips, divided by one scale for all, and
            turned by `SPREAD`.
        shift: float64 (256,); added to the projected features, so that the mean training clip is at 0.
        weight: float64 (K,256).
        bias: float64 (K,).
    """

    projection: NDArray[np.float64]
    shift: NDArray[np.float64]
    weight: NDArray[np.float64]
    bias: NDArray[np.float64]

    def embed(self, features: Floats) -> NDArray[np.float64]:
        """Embeddings (...,256) of features (...,D)."""
        found: NDArray[np.float64] = features @ self.projection.T + self.shift
        return found

    def classify(self, embeddings: Floats) -> NDArray[np.float64]:
        """Class scores (...,K) of embeddings (...,256)."""
        found: NDArray[np.float64] = embeddings @ self.weight.T + self.bias
        return found

    def logits(self, features: Floats) -> NDArray[np.float64]:
        """Class scores (...,K) of features (...,D)."""
        return self.classify(self.embed(features))

    def probabilities(self, features: Floats) -> NDArray[np.float64]:
        """Probabilities (...,K) of features (...,D)."""
        scores = np.exp(self.logits(features) - self.logits(features).max(axis=-1, keepdims=True))
        found: NDArray[np.float64] = scores / scores.sum(axis=-1, keepdims=True)
        return found


def fit(features: Floats, labels: NDArray[np.int64], settings: FitSettings, classes: int | None = None) -> LinearFit:
    """Fit a model.

    Features are centred, projected to at most 256 principal components without whitening, and divided by one number, so
    that the mean squared length of an embedding is 1; `SPREAD` turns it, which changes no class score. With up to 257
    rows no information is lost: logistic regression on the components is then the same as on all features. All classes
    weigh the same, however many clips they have.

    Args:
        features: (N,D), or (N,V,D) with V views of each clip, which share its weight.
        labels: class of each clip, (N,).
        settings: of the fit.
        classes: number of classes K; None for the highest label plus 1. A class without clips is never predicted.

    Raises:
        LinearFitError: the clips are of fewer than two classes, or all look the same.
    """
    views = features.shape[1] if features.ndim == 3 else 1
    rows = _stress_motion(features.reshape(-1, features.shape[-1]).astype(np.float64), settings)
    targets = np.repeat(labels, views)
    count = classes if classes is not None else int(labels.max()) + 1
    present = np.unique(labels)
    if len(present) < 2:
        raise LinearFitError(f"all {len(labels)} training clips have the same class; label clips of at least two")
    if not np.ptp(rows, axis=0).any():
        raise LinearFitError(
            f"the features of all {len(labels)} training clips are the same; for joints, check that persons are found: "
            "sefar pose show"
        )
    components = min(EMBEDDING_DIM, len(rows) - 1, rows.shape[1])
    pca = PCA(components, svd_solver="covariance_eigh" if rows.shape[1] < len(rows) else "auto", random_state=0)
    embedded = pca.fit_transform(rows)
    scale = float(np.sqrt((embedded**2).sum(axis=1).mean())) or 1.0
    model = LogisticRegression(C=settings.c / views, class_weight="balanced", max_iter=5000)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        model.fit(embedded / scale, targets)
    projection = np.zeros((EMBEDDING_DIM, rows.shape[1]))
    projection[:components] = pca.components_ / scale
    weight, bias = np.zeros((count, EMBEDDING_DIM)), np.zeros(count)
    # Two classes have one row of weights, of the second class against the first.
    halves = np.array([[-0.5], [0.5]]) if len(present) == 2 else np.eye(len(present))
    weight[present, :components], bias[present] = halves @ model.coef_, halves @ model.intercept_
    absent = np.setdiff1d(np.arange(count), present)
    bias[absent] = bias[present].min() + ABSENT
    projection, weight = SPREAD @ projection, weight @ SPREAD.T
    # The projection takes features as they are: stressing motion is a symmetric linear map.
    return LinearFit(_stress_motion(projection, settings), -projection @ pca.mean_, weight, bias)


def _stress_motion(rows: NDArray[np.float64], settings: FitSettings) -> NDArray[np.float64]:
    """Multiply deviations of frames from the mean frame, in rows (N,D)."""
    if settings.motion == 1:
        return rows
    by_frame = rows.reshape(len(rows), settings.frames, -1)
    mean = by_frame.mean(axis=1, keepdims=True)
    return (mean + settings.motion * (by_frame - mean)).reshape(rows.shape)


def choose_c(
    features: Floats,
    labels: NDArray[np.int64],
    settings: FitSettings,
    groups: Sequence[object] | NDArray[np.generic] | None = None,
    grid: Sequence[float] = GRID,
    seed: int = 0,
) -> float:
    """Choose C by balanced accuracy in stratified cross-validation of the training clips.

    Args:
        features: (N,D) or (N,V,D); clips left out are judged by their first view.
        labels: (N,).
        settings: of the fits, apart from C.
        groups: of each clip, (N,); clips of one group are never on both sides. None: no groups.
        grid: values to choose between; where several are best, the smallest is taken.
        seed: of the folds.

    Raises:
        LinearFitError: a class has fewer than two clips, or fewer than two groups.
    """
    least = int(np.unique(labels, return_counts=True)[1].min())
    if groups is not None:
        named = np.asarray(groups)
        least = min(len(np.unique(named[labels == label])) for label in np.unique(labels))
    if least < 2:
        raise LinearFitError("a class has a single clip or group, which leaves nothing to choose C by; set linear.c")
    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    folds = kind(min(INNER_FOLDS, least), shuffle=True, random_state=seed)
    classes = int(labels.max()) + 1
    found = np.zeros((len(grid), len(labels)), np.int64)
    for train, held in folds.split(labels, labels, groups):
        first = features[held, 0] if features.ndim == 3 else features[held]
        for row, c in enumerate(grid):
            found[row, held] = (
                fit(features[train], labels[train], replace(settings, c=c), classes).logits(first).argmax(axis=-1)
            )
    return grid[int(np.argmax([balanced_accuracy_score(labels, predicted) for predicted in found]))]
