"""Train an adapter from a recipe."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import yaml
from accelerate import PartialState

from sefar_serve.atomic import atomic_file
from sefar_serve.mllm.adapter import load_adapter, save_adapter

from ..evaluation.score import check_labels
from ..run_folder import FINAL
from .card import write_card
from .config import AdapterRecipe
from .data import Taught
from .evaluate import evaluate_adapter, make_questions
from .features import Encoder
from .stages import build_model, tiny_language_model, train_stages

logger = logging.getLogger(__name__)


def train_adapter(recipe: AdapterRecipe, progress: bool = True) -> Path:
    """Train an adapter.

    Args:
        recipe: the recipe.
        progress: show progress bars.

    Returns:
        The adapter's folder.

    Raises:
        ModelLoadError: the encoder is missing or not a SeFAR model.
        ListFileError, EvaluationError, ClipError: the lists do not fit, or their clips cannot be read.
        DistractorError: there are too few classes for questions.
    """
    encoder = Encoder(recipe.encoder, recipe.cache)
    taught = taught_clips(recipe, encoder, progress)
    logger.info("%d clips with labels, %d with pseudo-labels", taught.labelled, len(taught.labels) - taught.labelled)
    lines = []
    language_model = recipe.language_model
    if language_model is None:
        folder, lines = tiny_language_model(recipe, encoder.metadata, encoder.classes, progress)
        language_model = str(folder)
    model, processor = build_model(language_model, encoder.metadata, recipe)
    lines += train_stages(model, processor, encoder.classes, taught, recipe, progress)
    final = recipe.out / FINAL
    if PartialState().is_main_process:
        save_adapter(model, processor, final, whole=recipe.whole)
        with atomic_file(final / "recipe.yaml") as new:
            new.write_text(yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False), encoding="utf-8")
        with atomic_file(recipe.out / "log.jsonl") as new:
            new.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        describe(recipe, final, encoder, taught, progress)
    return final


def describe(recipe: AdapterRecipe, final: Path, encoder: Encoder, taught: Taught, progress: bool = True) -> Path:
    """Load the finished adapter as users will, evaluate it if the recipe has a test list, and write its model card.

    Returns:
        The file.
    """
    adapter = load_adapter(final)
    data, report = recipe.data, None
    if data.test is not None:
        clips = encoder.features(data.root / data.test, data.root, data.remap, progress=progress)
        report = evaluate_adapter(
            adapter,
            clips,
            encoder.classes,
            encoder.metadata.name,
            make_questions(clips, encoder.classes),
            blind=recipe.features == "none",
            progress=progress,
        )
    return write_card(final, recipe, adapter.model, encoder.metadata, taught, report)


def taught_clips(recipe: AdapterRecipe, encoder: Encoder, progress: bool = True) -> Taught:
    """The training clips of a recipe: labelled ones, and unlabelled ones with pseudo-labels."""
    data = recipe.data
    views = data.view_settings
    labelled = encoder.features(data.root / data.train, data.root, data.remap, views, progress=progress)
    check_labels(labelled.labels, len(encoder.classes.labels))
    unlabelled = None
    if data.unlabel is not None:
        unlabelled = encoder.features(
            data.root / data.unlabel, data.root, data.remap, views, unlabelled=True, progress=progress
        )
    taught = Taught.of(labelled, unlabelled, data.threshold)
    return taught if recipe.features == "sefar" else replace(taught, features=taught.features.blinded())
