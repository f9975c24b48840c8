"""Class scores and their Monte-Carlo samples, from a checkpoint in torch or from the exported file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from sefar_serve.engine.loaded import Device
from sefar_serve.engine.onnx import OnnxModel
from sefar_serve.metadata import ModelMetadata, PixelSizes
from sefar_serve.sampling import Sampling

from ..checkpoint import load_checkpoint
from ..data import ClassTable
from ..export import dropout_masks
from ..model import FrameNormalizer, PoseNormalizer, SefarModel, create_normalizer
from .score import EvaluationError


class Scores(NamedTuple):
    """A model's output for B clips."""

    logits: NDArray[np.float32]
    """(B,K)."""
    mc_logits: NDArray[np.float32]
    """(B,T,K), T Monte-Carlo dropout samples of the head with the fixed masks of the exported file."""
    mean_tokens: NDArray[np.float32]
    """(B,D), the mean of each clip's tokens, see `sefar_training.typical`."""


Predictor = Callable[..., Scores]
"""Frames uint8 (B,F,H,W,3), joints float32 (B,F,P,J,4), or frames and joints, in element order to scores."""


@dataclass(frozen=True)
class EvaluatedModel:
    """A model ready to be evaluated.

    Attributes:
        predict: maps what the model sees to scores.
        classes: the classes it predicts.
        sampling: temporal elements of its input.
        pixels: how frames are cut; None if it sees none.
        persons: number of persons whose joints it sees.
        estimator: name of the pose estimator that it was trained with; empty if it sees no joints.
        estimator_sha256: of the estimator's weights.
    """

    predict: Predictor
    classes: ClassTable
    sampling: Sampling
    pixels: PixelSizes | None
    persons: int = 1
    estimator: str = ""
    estimator_sha256: str = ""


def torch_predictor(model: SefarModel, normalizer: FrameNormalizer | PoseNormalizer, device: torch.device) -> Predictor:
    """Predict with a torch model in eval mode and float32. The model's mode is restored after each batch.

    The backbone runs once per batch; the Monte-Carlo samples only repeat the classifier, as in the exported file.
    """
    masks_TC = dropout_masks(rate=model.head.dropout.p).to(device)

    def predict(inputs: NDArray[Any]) -> Scores:
        was_training = model.training
        model.eval()
        with torch.inference_mode():
            out = model(normalizer(torch.from_numpy(inputs).to(device)))
            mc_logits = model.head.classifier(out.embedding.unsqueeze(1) * masks_TC)
        model.train(was_training)
        return Scores(*(values.float().cpu().numpy() for values in (out.logits, mc_logits, out.tokens.mean(dim=1))))

    return predict


def onnx_predictor(file: Path, device: Device = "cpu") -> tuple[Predictor, ModelMetadata]:
    """Predict with an exported file, run as in serving; also return the file's metadata.

    Raises:
        ModelLoadError: the file is missing or not a SeFAR model, or the device does not exist.
    """
    model = OnnxModel(file, device=device)
    names = tuple(model.metadata.inputs)

    def predict(*inputs: NDArray[Any]) -> Scores:
        out = model.run(dict(zip(names, inputs, strict=True)))
        return Scores(out.logits, out.mc_logits, out.tokens.mean(axis=1))

    return predict, model.metadata


def open_model(path: Path, device: Device = "auto") -> EvaluatedModel:
    """Open a checkpoint folder or an exported file.

    Args:
        path: checkpoint folder, or file ending in ``.onnx``.
        device: ``auto`` uses CUDA if available.

    Raises:
        EvaluationError: it is neither, or the device does not exist.
        CheckpointError, ModelLoadError: it is damaged or not a SeFAR model.
    """
    if not path.exists():
        raise EvaluationError(f"{path} does not exist; give a checkpoint folder or an .onnx file")
    if path.suffix == ".onnx":
        predict, about = onnx_predictor(path, device)
        classes = ClassTable(about.labels, about.attributes, about.opposites)
        return EvaluatedModel(
            predict,
            classes,
            about.sampling,
            about.pixels,
            about.persons,
            about.estimator,
            about.estimator_sha256,
        )
    if not path.is_dir():
        raise EvaluationError(f"{path} is neither a checkpoint folder nor an .onnx file")
    if device == "cuda" and not torch.cuda.is_available():
        raise EvaluationError("torch finds no CUDA device; use --device cpu")
    where = torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")
    model, info = load_checkpoint(path)
    # As in training, so that a checkpoint reproduces its recorded figures bit for bit.
    model.backbone.set_fused_attention(where.type != "cpu")
    config = info.model
    normalizer = create_normalizer(config.stream, config.mean, config.std)
    return EvaluatedModel(
        torch_predictor(model.to(where), normalizer.to(where), where),
        info.classes,
        config.sampling,
        PixelSizes(config.resize, config.size) if config.stream == "rgb" else None,
        config.persons,
        info.estimator,
        info.estimator_sha256,
    )
