"""Recipes of training runs, as typed objects that are validated before training starts.

A recipe is a YAML file. `load_recipe` reads it and applies ``dotted.key=value`` overrides; errors name the offending
key.
"""

from .data import DataConfig, default_features_folder
from .learning import WITHOUT_UNLABELLED, Method, OptimConfig, Perturbation, SemiConfig
from .model import ORDERED_FRAMES, ModelConfig
from .recipe import TrainConfig, load_recipe

__all__ = [
    "ORDERED_FRAMES",
    "WITHOUT_UNLABELLED",
    "DataConfig",
    "Method",
    "ModelConfig",
    "OptimConfig",
    "Perturbation",
    "SemiConfig",
    "TrainConfig",
    "default_features_folder",
    "load_recipe",
]
