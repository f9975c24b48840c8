"""Deterministic evaluation. A checkpoint and its exported ONNX file are evaluated by the same code."""

from .clips import ModelClips, PairedClips, open_clips
from .predict import EvaluatedModel, Predictor, Scores, onnx_predictor, open_model, torch_predictor
from .run import evaluate_clips, evaluate_model, predict_clips
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
    "ModelClips",
    "MultiViewClips",
    "PairedClips",
    "Predictor",
    "Scores",
    "Views",
    "evaluate_clips",
    "evaluate_model",
    "onnx_predictor",
    "open_clips",
    "open_model",
    "predict_clips",
    "score",
    "torch_predictor",
]
