"""A linear model on frozen features: strong with few labels, and trained in seconds once the features are stored."""

from .features import FrameFeatures, JointFeatures
from .fit import GRID, FitSettings, LinearFit, LinearFitError, choose_c, fit
from .networks import load_network
from .run import fit_model, fit_settings, open_features, train_linear

__all__ = [
    "GRID",
    "FitSettings",
    "FrameFeatures",
    "JointFeatures",
    "LinearFit",
    "LinearFitError",
    "choose_c",
    "fit",
    "fit_model",
    "fit_settings",
    "load_network",
    "open_features",
    "train_linear",
]
