"""The three stages of training: language, projector, and both together. Each is one run of transformers' Trainer."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.utils.data import Dataset
from transformers import (
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainingArguments,
)

from sefar_serve.atomic import atomic_folder
from sefar_serve.metadata import ModelMetadata
from sefar_serve.mllm import SefarForConditionalGeneration, SefarProcessor

from ..data import ClassTable
from .config import AdapterRecipe, LoraSettings, Stage
from .data import ClipExamples, Examples, Item, Taught, TextExamples, collate
from .language import all_sentences, make_language_model, train_tokenizer

logger = logging.getLogger(__name__)

LANGUAGE_VERSION = 2
"""Raise this when the training of tiny language models changes, so that cached ones are not reused."""


def run_stage(
    model: PreTrainedModel,
    processor: SefarProcessor,
    examples: Dataset[Item],
    stage: Stage,
    recipe: AdapterRecipe,
    name: str,
    progress: bool,
) -> list[dict[str, Any]]:
    """Train the parameters of a model that require gradients.

    Args:
        model: a causal language model, with or without clips; trained in place.
        processor: the model's processor.
        examples: as many as the stage has steps times its batch size.
        stage: steps, batch size and learning rate.
        recipe: all other settings.
        name: name of the stage, for the log.
        progress: show a progress bar.

    Returns:
        Lines of the log.
    """
    arguments = TrainingArguments(
        output_dir=str(recipe.out / "trainer"),
        max_steps=stage.steps,
        per_device_train_batch_size=stage.batch_size // stage.accumulate,
        gradient_accumulation_steps=stage.accumulate,
        learning_rate=stage.lr,
        lr_scheduler_type="cosine",
        warmup_steps=round(stage.steps * stage.warmup),
        weight_decay=stage.weight_decay,
        bf16=recipe.precision == "bf16",
        seed=recipe.seed,
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=torch.cuda.is_available(),
        remove_unused_columns=False,
        save_strategy="no",
        report_to=[],
        logging_steps=recipe.log_every,
        disable_tqdm=not progress,
    )
    if recipe.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=examples,
        data_collator=partial(collate, pad=processor.tokenizer.pad_token_id),
    )
    if not progress:
        trainer.pop_callback(PrinterCallback)
    logger.info("stage %s: %d steps of %d examples", name, stage.steps, stage.batch_size)
    trainer.train()
    model.config.use_cache = True  # Trainer turns it off; saved like that, generation would be slow
    return [{"stage": name, **line} for line in trainer.state.log_history]


def make_processor(tokenizer: PreTrainedTokenizerBase, about: ModelMetadata) -> SefarProcessor:
    """Make the processor of a language model for an encoder."""
    return SefarProcessor(tokenizer, about.embedding_dim, about.token_dim, len(about.sample_frames))


def tiny_language_model(
    recipe: AdapterRecipe, about: ModelMetadata, classes: ClassTable, progress: bool
) -> tuple[Path, list[dict[str, Any]]]:
    """Stage 0: train the tiny language model, or take it from the cache if a run with this seed has trained it.

    Returns:
        Its folder, and lines of the log.
    """
    sentences = all_sentences(classes)
    shares = recipe.data.model_dump(include={"questions", "attributes", "near"})
    told = json.dumps(
        [LANGUAGE_VERSION, recipe.tiny.model_dump(), recipe.language.model_dump(), recipe.seed, shares, sentences]
    )
    folder = recipe.cache / f"language-{hashlib.sha256(told.encode()).hexdigest()[:20]}"
    if folder.is_dir():
        logger.info("stage language: taken from %s", folder)
        return folder, []
    tokenizer = train_tokenizer([*sentences, *sentences], recipe.tiny.vocabulary)
    processor = make_processor(tokenizer, about)
    model = make_language_model(recipe.tiny, tokenizer, len(tokenizer), recipe.seed)
    lines: list[dict[str, Any]] = []
    if recipe.language.steps:
        stage = recipe.language
        examples = TextExamples(Examples(classes, recipe.data), processor, stage.steps * stage.batch_size, recipe.seed)
        lines = run_stage(model, processor, examples, stage, recipe, "language", progress)
    with atomic_folder(folder) as new:
        model.save_pretrained(new)
        tokenizer.save_pretrained(new)
    return folder, lines


def build_model(
    language_model: str, about: ModelMetadata, recipe: AdapterRecipe
) -> tuple[SefarForConditionalGeneration, SefarProcessor]:
    """Build a language model with an untrained projector for an encoder.

    Args:
        language_model: folder or hub id.
        about: the encoder.
        recipe: for name and seed.
    """
    processor = make_processor(AutoTokenizer.from_pretrained(language_model), about)
    torch.manual_seed(recipe.seed)
    model = SefarForConditionalGeneration.from_language_model(
        language_model,
        embedding_dim=about.embedding_dim,
        token_dim=about.token_dim,
        elements=len(about.sample_frames),
        sefar_token_id=processor.sefar_token_id,
        dtype="auto" if torch.cuda.is_available() else torch.float32,
    )
    model.projector.float()  # trained, so it stays in full precision, whatever the language model's
    model.config.name = recipe.name
    model.config.encoder = {"name": about.name, "version": about.version}
    return model, processor


def train_stages(
    model: SefarForConditionalGeneration,
    processor: SefarProcessor,
    classes: ClassTable,
    taught: Taught,
    recipe: AdapterRecipe,
    progress: bool,
) -> list[dict[str, Any]]:
    """Stages 1 and 2: the projector alone, then together with the language model or its LoRA.

    Returns:
        Lines of the log.
    """
    examples = Examples(classes, recipe.data, taught.features.logits[:, 0])
    lines: list[dict[str, Any]] = []

    def stage_of(name: str, stage: Stage, number: int, parts: Iterable[nn.Module]) -> None:
        for part in parts:
            part.requires_grad_(True)
        drawn = ClipExamples(
            examples, taught, processor, stage.steps * stage.batch_size, seed=1000 * number + recipe.seed
        )
        lines.extend(run_stage(model, processor, drawn, stage, recipe, name, progress))

    model.requires_grad_(False)
    if recipe.projector.steps:
        stage_of("projector", recipe.projector, 1, [model.projector])
    if recipe.together.steps and (recipe.whole or recipe.lora is not None):
        parts: list[nn.Module] = [model.projector]
        if recipe.lora is None:
            parts.append(model.language_model)
        else:
            model.language_model = with_lora(model.language_model, recipe.lora)
        stage_of("together", recipe.together, 2, parts)
    if recipe.whole:
        # The language model is part of the adapter, so the local folder that it was trained in must not be recorded.
        model.language_model.config.name_or_path = ""
        model.config.text_config.name_or_path = ""
        model.config.text_config.use_cache = True
    return lines


def with_lora(language_model: nn.Module, settings: LoraSettings) -> nn.Module:
    """Add a LoRA to the language model; only the LoRA is trained."""
    targets = settings.target_modules
    config = LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        task_type="CAUSAL_LM",
    )
    return get_peft_model(language_model, config)
