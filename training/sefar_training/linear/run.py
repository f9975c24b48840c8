"""One run of the method `linear`: from a recipe, or from features, to a checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sefar_serve.pose import Estimator

from ..calibration import Calibrated, CrossValidated, calibrate, calibrate_by_folds
from ..checkpoint import build, describe, save_checkpoint
from ..config import ModelConfig, TrainConfig, default_features_folder
from ..data import WeakView
from ..data.broken import BrokenClips
from ..evaluation import evaluate_clips, torch_predictor
from ..inputs import FrameInputs, JointInputs, create_inputs, read_classes, read_entries
from ..loop import RunError
from ..model import FrameNormalizer, FrameVectors, SefarModel, Stream
from ..run_folder import FINAL, STATE
from ..typical import FEWEST_HELD_OUT
from .features import FeatureSource, FrameFeatures, FrameSettings, JointFeatures
from .fit import FitSettings, LinearFit, choose_c, fit
from .networks import load_network

MOTION: dict[Stream, float] = {"rgb": 2.0, "pose": 1.0}
"""Weight of motion, see `FitSettings`, unless a recipe says otherwise."""

logger = logging.getLogger(__name__)


def open_features(
    config: TrainConfig, progress: bool = True, estimator: Estimator | None = None
) -> tuple[FeatureSource, FrameVectors | None]:
    """Open the features that a recipe's model sees, with the weights of its network; None for joints.

    Raises:
        WeightsError: the network's weights are missing and cannot be downloaded, or do not fit.
        StoredJointsError, PoseSetupError: joints cannot be had.
    """
    inputs = create_inputs(config, progress, estimator=estimator)
    return _open(config, inputs)


def _open(config: TrainConfig, inputs: FrameInputs | JointInputs) -> tuple[FeatureSource, FrameVectors | None]:
    model = config.model
    if isinstance(inputs, JointInputs):
        return JointFeatures(inputs.source, model.sampling, model.persons), None
    network = load_network(model.backbone, model.sample_frames, config.init)
    settings = FrameSettings(
        model.sampling,
        model.resize,
        model.size,
        WeakView(model.size, config.scale, config.data.flip),
        config.seed,
    )
    folder = config.linear.features or default_features_folder(config.data.root)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return FrameFeatures(folder, network, FrameNormalizer(model.mean, model.std), settings, device), network


def fit_settings(config: TrainConfig) -> FitSettings:
    """The settings of a recipe's fit; with ``linear.c: choose`` C is still to be chosen."""
    c = config.linear.c
    motion = config.linear.motion or MOTION[config.model.stream]
    return FitSettings(FitSettings.c if c == "choose" else c, config.model.sampling.frames, motion)


def fit_model(config: ModelConfig, fitted: LinearFit, network: FrameVectors | None = None) -> SefarModel:
    """Put a fit into a model, which can be saved, evaluated and exported as any other.

    Args:
        config: description of the model.
        fitted: the fit.
        network: the network that described the frames; None for joints.
    """
    model = build(config, len(fitted.bias))
    if network is not None:
        model.backbone.load_state_dict(network.cpu().state_dict())
    head = {
        "projection.weight": fitted.projection,
        "projection.bias": fitted.shift,
        "classifier.weight": fitted.weight,
        "classifier.bias": fitted.bias,
    }
    model.head.load_state_dict({name: torch.from_numpy(values).float() for name, values in head.items()})
    return model.eval()


def train_linear(
    config: TrainConfig,
    progress: bool = True,
    estimator: Estimator | None = None,
    groups: Sequence[object] | None = None,
    known: CrossValidated | None = None,
) -> Path:
    """Fit a recipe's linear model to its labelled clips. An earlier linear model in `out` is replaced.

    Args:
        config: the recipe, of the method ``linear``.
        progress: show progress bars.
        estimator: finds joints that are not stored yet; None for MediaPipe's.
        groups: of each clip of the train list; with ``linear.c: choose``, clips of one group are not on both sides.
        known: what cross-validation found; with fewer than `FEWEST_HELD_OUT` clips in the val list, it says what is
            typical of the training clips. None uses the val list alone.

    Returns:
        The folder of the checkpoint, ``<out>/final``.

    Raises:
        RunError: `out` holds a run of another method.
        LinearFitError: the clips are of fewer than two classes, or too few to choose C.
        BrokenClipsError: more clips than allowed do not decode.
        EvaluationError: clips of the val or test list are missing.
        WeightsError: the weights of the network are missing and cannot be downloaded, or do not fit.
        FeatureCacheError, JointCacheError, StoredJointsError, PoseSetupError: features or joints cannot be had.
        ListFileError, ClassesError: a file that the recipe names is missing or does not fit.
    """
    if (config.out / STATE).exists():
        raise RunError(f"{config.out} holds a run of another method; set out to another folder")
    classes = read_classes(config)
    inputs = create_inputs(config, progress, estimator=estimator)
    judged = {name: file for name, file in (("val", config.data.val), ("test", config.data.test)) if file is not None}
    # Opened first, so that missing clips are reported at once.
    clips = {name: inputs.evaluation(file) for name, file in judged.items()}
    source, network = _open(config, inputs)

    entries = read_entries(config, config.data.train)
    found, errors = source.read([entry.clip for entry in entries], config.linear.views, progress)
    broken = BrokenClips(entries, config.data.max_broken)
    broken.report({index: errors[entry.clip] for index, entry in enumerate(entries) if entry.clip in errors})
    kept = [index for index, entry in enumerate(entries) if entry.clip in found]
    features = np.stack([found[entries[index].clip] for index in kept])
    labels: NDArray[np.int64] = np.array([entries[index].label for index in kept])

    settings = fit_settings(config)
    if config.linear.c == "choose":
        within = None if groups is None else [groups[index] for index in kept]
        settings = replace(settings, c=choose_c(features, labels, settings, within))
        logger.info("linear.c: %g is best in cross-validation of the labelled clips", settings.c)
    model = fit_model(config.model, fit(features, labels, settings, len(classes.labels)), network)
    metrics: dict[str, object] = {"c": settings.c}
    folder = config.out / FINAL
    # Saved before testing: a test clip that does not decode must not cost the model.
    save_checkpoint(folder, model, describe(config, classes, metrics, inputs.origin))
    calibrated = Calibrated(model)
    # The tokens are the features of the served view, and all elements have the same number of frames.
    tokens = features[:, 0].reshape(len(features), model.backbone.elements, -1).mean(axis=1)
    if known is not None and ("val" not in clips or len(clips["val"]) < FEWEST_HELD_OUT):
        calibrated = calibrate_by_folds(model, known, tokens, known.folds[kept])
    elif "val" in clips:
        predict = torch_predictor(model, inputs.normalizer, torch.device("cpu"))
        calibrated = calibrate(model, predict, clips["val"], tokens, config.data.workers, known)
    predict = torch_predictor(calibrated.model, inputs.normalizer, torch.device("cpu"))
    for name, held in clips.items():
        report = evaluate_clips(predict, held, classes, workers=config.data.workers, progress=progress)
        logger.info("%s: top1 %.3f of %d clips", name, report.top1, report.clips)
        metrics = metrics | {name: report.model_dump(mode="json")}
    info = describe(config, classes, metrics, inputs.origin, calibrated.temperature)
    save_checkpoint(folder, calibrated.model, info, calibrated.typical)
    return folder
