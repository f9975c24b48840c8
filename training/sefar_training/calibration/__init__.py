"""What a trained model needs to judge its own answers: calibrated probabilities, and what is typical of its clips."""

from .run import Calibrated, CrossValidated, calibrate, calibrate_by_folds, mean_tokens
from .temperature import fit_temperature, with_temperature

__all__ = [
    "Calibrated",
    "CrossValidated",
    "calibrate",
    "calibrate_by_folds",
    "fit_temperature",
    "mean_tokens",
    "with_temperature",
]
