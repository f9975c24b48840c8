"""The task `classify`: train a classifier from labelled and, with most methods, unlabelled clips."""

from __future__ import annotations

from ..data import Source
from ..loop import RunError, steps_per_epoch
from ..run_folder import FINAL, STUDENT
from ..task import Setup, Task
from .step import RULES, ClassificationStep


def classify(setup: Setup) -> Task:
    """Set up the training of a classifier by the recipe's method.

    Raises:
        RunError: a part of a batch holds a single unlabelled clip, and the method mixes clips.
        ListFileError, BrokenClipsError: the lists or their clips cannot be read.
    """
    config, inputs = setup.config, setup.inputs
    mixes = config.uses_unlabelled and RULES[config.method].mixes
    if mixes and config.semi.batch_size == setup.parts:
        raise RunError(
            "the method mixes unlabelled clips, but each part of a batch has only one; raise semi.batch_size"
        )
    labels = inputs.labels(config.data.train) if config.data.balance else None
    sources = [Source(inputs.labelled(config.data.train), config.optim.batch_size, labels=labels)]
    if config.uses_unlabelled and config.data.unlabel is not None:
        unlabelled = inputs.unlabelled(config.data.unlabel)
        sources.append(Source(unlabelled, config.semi.batch_size, config.semi.start_epoch))
    per_epoch = steps_per_epoch(sources, config.optim)
    step = ClassificationStep(
        setup.model,
        inputs.normalizer,
        config.method,
        config.semi,
        config.perturbation,
        config.optim.epochs,
        len(sources[-1]),
        config.optim.epochs * per_epoch,
        0 if config.semi.teacher_warmup else config.semi.start_epoch * per_epoch,
        config.regularization.label_smoothing,
        inputs.views,
    )
    return Task(step, sources, {FINAL: step.average.module, STUDENT: setup.model}, classifies=True)
