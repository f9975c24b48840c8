"""Deterministic evaluation. A checkpoint and its exported ONNX file are evaluated by the same code."""

from .predict import EvaluatedModel, Predictor, Scores, onnx_predictor, open_model, torch_predictor
from .run import evaluate_clips, evaluate_model
from .score import (
    CalibrationBin,
    ConfusedPair,
    EtaFigures,
    EvaluationError,
    EvaluationReport,
    score,
)
from .views import MultiViewClips, Views

__all__ = [
    "CalibrationBin",
    "ConfusedPair",
    "EtaFigures",
    "EvaluatedModel",
    "EvaluationError",
    "EvaluationReport",
    "MultiViewClips",
    "Predictor",
    "Scores",
    "Views",
    "evaluate_clips",
    "evaluate_model",
    "onnx_predictor",
    "open_model",
    "score",
    "torch_predictor",
]
