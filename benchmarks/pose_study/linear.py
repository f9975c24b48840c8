"""Logistic regression on the joints of 16 frames, and on frozen features of 8 frames, as `method: linear` fits it."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sefar_serve.lists import ClipKey
from sefar_serve.pose import Estimator
from sefar_training.config import TrainConfig
from sefar_training.data import JointCache
from sefar_training.linear import FitSettings, JointFeatures, fit, fit_settings, open_features

from .clips import ClipSet, StudyError
from .joints import joints_folder

Floats = NDArray[np.float32]

STREAMS = {"lr": "pose", "rgb": "rgb"}
"""What each method sees."""

PICTURE_C = (3.0, 30.0, 300.0)
PICTURE_SETTINGS = tuple(f"C={c:g}" for c in PICTURE_C)
"""What runs on frames choose between. Those on joints have the default."""


def recipe(method: str, root: Path, work: Path) -> TrainConfig:
    """The recipe of a method, for the clips in a folder."""
    return TrainConfig.model_validate(
        {
            "method": "linear",
            "out": work,
            "model": {"stream": STREAMS[method]},
            "data": {"root": root, "train": "unused", "flip": 0},
            "linear": {"features": work / "features"},
        }
    )


def fingerprint(method: str) -> str:
    """A hash of what a method's runs depend on."""
    config = recipe(method, Path(), Path())
    kept = config.model_dump(mode="json", include={"linear", "model"})
    return hashlib.sha256(f"{kept} {fit_settings(config)}".encode()).hexdigest()[:8]


def joint_features(clips: ClipSet, work: Path, estimator: Estimator) -> Floats:
    """The features of all clips, (N,1,D), from stored joints.

    Raises:
        StudyError: clips cannot be read.
    """
    cache = JointCache(joints_folder(work), estimator)
    config = recipe("lr", clips.root, work)
    return _stacked(clips, *JointFeatures(cache, config.model.sampling, config.model.persons).read(clips.files))


def picture_features(clips: ClipSet, work: Path) -> Floats:
    """The features of all clips, (N,V,D); those that are not stored are computed now.

    Raises:
        StudyError: clips cannot be read.
        WeightsError: the weights of the network cannot be downloaded.
    """
    config = recipe("rgb", clips.root, work)
    source, _ = open_features(config)
    return _stacked(clips, *source.read(clips.files, config.linear.views))


def _stacked(clips: ClipSet, found: dict[ClipKey, Floats], errors: dict[ClipKey, Exception]) -> Floats:
    if errors:
        raise StudyError(f"{len(errors)} clips cannot be read, among them {next(iter(errors.values()))}")
    return np.stack([found[file] for file in clips.files])


def fit_linear(
    method: str, setting: str, values: Floats, labels: NDArray[np.int64], train: list[int], held: list[int]
) -> NDArray[np.float64]:
    """Train on some clips of (N,V,D), and return the probabilities (n,K) for the served view of others.

    Args:
        method: a key of `STREAMS`.
        setting: one of `PICTURE_SETTINGS`; empty for the default.
        values: features.
        labels: (N,).
        train: numbers of the clips to train on.
        held: numbers of the clips to predict.
    """
    settings: FitSettings = fit_settings(recipe(method, Path(), Path()))
    if setting:
        settings = replace(settings, c=float(setting.removeprefix("C=")))
    fitted = fit(values[train], labels[train], settings, int(labels.max()) + 1)
    return fitted.probabilities(values[held, 0])
