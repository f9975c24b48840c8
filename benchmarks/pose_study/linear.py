"""Logistic regression on the joints of 16 frames, and on frozen features of 8 frames."""

from __future__ import annotations

import warnings
from itertools import product

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sefar_serve.pose.joints import HIPS, SHOULDERS

from .pictures import CUTS

Floats = NDArray[np.float32]

JOINT_C = 1.0
"""Weight of the loss against the penalty, for joints in metres. Not chosen between."""

PICTURE_C = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""The same for standardised features of frames."""

PICTURE_SETTINGS = tuple(f"{cut} C={c:g}" for cut, c in product(CUTS, PICTURE_C))
"""What runs on frames choose between: how frames are cut, and C."""


def canonical(joints: Floats) -> Floats:
    """Turn clips (N,F,J,3) about the vertical, so that the mean left–right line of hips and shoulders lies along x."""
    across = sum(joints[:, :, left] - joints[:, :, right] for left, right in (SHOULDERS, HIPS))
    flat = across[..., [0, 2]]
    flat = flat / np.maximum(np.linalg.norm(flat, axis=-1, keepdims=True), 1e-6)
    x, z = flat.mean(axis=1).T
    angle = np.arctan2(z, x)
    cos, sin = np.cos(angle), np.sin(angle)
    zero, one = np.zeros_like(cos), np.ones_like(cos)
    turn = np.stack([cos, zero, sin, zero, one, zero, -sin, zero, cos], axis=-1).reshape(-1, 1, 3, 3)
    return joints @ turn.swapaxes(-1, -2)


def fit_joints(values: Floats, labels: NDArray[np.int64], train: list[int], held: list[int]) -> NDArray[np.float64]:
    """Train on some rows of (N,D), and return the probabilities (n,K) for others."""
    model = LogisticRegression(C=JOINT_C, max_iter=2000)
    return _probabilities(model, values, labels, train, held)


def fit_pictures(
    by_cut: dict[str, Floats], setting: str, labels: NDArray[np.int64], train: list[int], held: list[int]
) -> NDArray[np.float64]:
    """The same for standardised features of frames, with one of `PICTURE_SETTINGS`."""
    cut, _, c = setting.partition(" C=")
    # With as many components as clips, PCA only turns the features. That changes the time, but not the solution.
    model = make_pipeline(StandardScaler(), PCA(svd_solver="full"), LogisticRegression(C=float(c), max_iter=2000))
    return _probabilities(model, by_cut[cut], labels, train, held)


def _probabilities(
    model: LogisticRegression, values: Floats, labels: NDArray[np.int64], train: list[int], held: list[int]
) -> NDArray[np.float64]:
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        model.fit(values[train], labels[train])
    found: NDArray[np.float64] = model.predict_proba(values[held])
    return found
