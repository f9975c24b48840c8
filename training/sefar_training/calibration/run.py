"""Calibrate a model on its validation list, and find out what is typical of its training clips."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..evaluation import ModelClips, Predictor, predict_clips
from ..model import SefarModel
from ..typical import MOST_REFERENCES, Typical, TypicalError, fit_typical, fit_typical_by_folds
from .temperature import fit_temperature, with_temperature

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CrossValidated:
    """What cross-validation of the training clips found out about a model before it is trained.

    Attributes:
        temperature: see `fit_temperature`; fitted to the answers to clips that were left out.
        folds: int64 (N,), the fold of each clip of the train list; -1 for clips in no fold.
    """

    temperature: float
    folds: NDArray[np.int64]


@dataclass(frozen=True)
class Calibrated:
    """A calibrated model.

    Attributes:
        model: the model, its classifier divided by `temperature`.
        temperature: see `fit_temperature`; None if there is no validation list.
        typical: what is typical of its training clips; None if that cannot be told.
    """

    model: SefarModel
    temperature: float | None = None
    typical: Typical | None = None


def calibrate(
    model: SefarModel,
    predict: Predictor,
    held_out: ModelClips,
    train: NDArray[np.floating] | None,
    workers: int = 0,
    known: CrossValidated | None = None,
) -> Calibrated:
    """Calibrate a model.

    Args:
        model: the model; it is not changed.
        predict: predicts with it.
        held_out: clips of the validation list.
        train: mean tokens of training clips, (N,D); None leaves out what is typical.
        workers: threads that decode clips.
        known: what cross-validation found, whose temperature is taken; None fits it to the held-out clips.

    Raises:
        ClipError, OSError: a held-out clip cannot be read.
    """
    found, labels = predict_clips(predict, held_out, workers=workers)
    temperature = fit_temperature(found.logits, labels) if known is None else known.temperature
    typical = None
    if train is not None:
        try:
            typical = fit_typical(train, found.mean_tokens)
        except TypicalError as error:
            # With cross-validation the report says so.
            logger.log(logging.WARNING if known is None else logging.INFO, "no familiarity: %s", error)
    chosen = f"chosen on {len(labels)} clips of the val list" if known is None else "chosen by cross-validation"
    logger.info("temperature %.3g, %s", temperature, chosen)
    return Calibrated(with_temperature(model, temperature), temperature, typical)


def calibrate_by_folds(
    model: SefarModel, found: CrossValidated, train: NDArray[np.floating] | None, folds: NDArray[np.int64]
) -> Calibrated:
    """Calibrate a model by what cross-validation found, without held-out clips.

    Args:
        model: the model; it is not changed.
        found: by cross-validation.
        train: mean tokens of training clips that a frozen backbone made, (N,D); None leaves out what is typical.
        folds: of these clips, int64 (N,).
    """
    typical = None
    if train is not None:
        try:
            typical = fit_typical_by_folds(train, folds)
        except TypicalError as error:
            logger.info("the model will not measure familiarity: %s", error)
    return Calibrated(with_temperature(model, found.temperature), found.temperature, typical)


def mean_tokens(predict: Predictor, clips: ModelClips, workers: int = 0, seed: int = 0) -> NDArray[np.float32]:
    """Mean tokens (N,D) of training clips, of at most `MOST_REFERENCES`. Clips that do not decode are left out.

    Args:
        predict: predicts with the model.
        clips: the training clips, as they are served.
        workers: threads that decode clips.
        seed: of the choice.

    Raises:
        EvaluationError: no clip can be read.
    """
    chosen = np.sort(np.random.default_rng(seed).permutation(len(clips))[:MOST_REFERENCES])
    return predict_clips(predict, clips, workers=workers, only=chosen.tolist(), skip_broken=True)[0].mean_tokens
