"""One training run from a recipe: puts data, model, step and loop together."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path

import torch

from .checkpoint import CheckpointInfo, init_backbone, save_checkpoint
from .config import TrainConfig
from .data import (
    ClassTable,
    DecodedClip,
    EvaluationClips,
    FrameStore,
    ListEntry,
    Source,
    StrongView,
    TrainingClips,
    UnlabelledClips,
    WeakView,
    read_list,
)
from .evaluation import EvaluationReport, evaluate_clips, torch_predictor
from .evaluation.run import check_files
from .loop import Figures, RunError, RunFolder, TrainingLoop, create_accelerator, steps_per_epoch
from .model import FrameNormalizer, SefarModel, create_model
from .semisupervised import RULES, ClassificationStep
from .synthgym import POSE_NAMES
from .synthgym.pretext import PoseFileError, PoseRegressor, PretextStep, read_poses

logger = logging.getLogger(__name__)

FINAL = "final"
"""Name of the finished checkpoint inside the run's folder: the moving average of the student, for a classifier."""

STUDENT = "student"
"""Name of a classifier's checkpoint without the moving average."""


def build_model(config: TrainConfig, classes: int) -> SefarModel:
    """Build the recipe's model with seeded weights, its backbone started from `init` where given."""
    torch.manual_seed(config.seed)
    model = create_model(
        config.model.variant,
        classes,
        config.model.sample_frames,
        size=config.model.size,
        dropout=config.model.dropout,
        drop_path=config.regularization.drop_path,
        architecture=config.model.architecture,
    )
    if config.init is not None:
        init_backbone(model, config.init)
    if config.regularization.freeze_stem:
        model.backbone.freeze_stem()
    return model


def read_classes(config: TrainConfig) -> ClassTable:
    """Read the recipe's class table, or number the classes where it names none, and hold the lists against it."""
    data = config.data
    used = (data.train, data.unlabel if config.uses_unlabelled else None, data.val, data.test)
    lists = {file: _entries(config, file) for file in used if file}
    if data.labels is None and data.classes is None:
        table = ClassTable.numbered(entry for entries in lists.values() for entry in entries)
    else:
        labels, classes = (data.root / file if file else None for file in (data.labels, data.classes))
        table = ClassTable.read(labels, classes)
    for file, entries in lists.items():
        table.check(entries, file)
    return table


def _entries(config: TrainConfig, list_file: Path) -> list[ListEntry]:
    data = config.data
    return read_list(data.root / list_file, data.root, data.remap, unlabelled=list_file == data.unlabel)


def open_store(
    config: TrainConfig, list_file: Path, progress: bool, decoded: Mapping[Path, DecodedClip] | None = None
) -> FrameStore:
    """Read a list of training clips; share the frames decoded before, or fill the cache with them."""
    data = config.data
    store = FrameStore(_entries(config, list_file), config.scale[1], data.cache_gb, data.max_broken)
    if decoded is None:
        store.fill(progress)
    else:
        store.share(decoded)
    return store


def training_sources(
    config: TrainConfig, progress: bool, decoded: Mapping[Path, DecodedClip] | None = None
) -> list[Source]:
    """What each step takes: labelled clips (with poses where the task is the pretext), and unlabelled ones."""
    data = config.data
    store = open_store(config, data.train, progress, decoded)
    poses = None
    if config.task == "pretext" and data.poses is not None:
        poses = read_poses(data.root / data.poses, POSE_NAMES, config.pretext.targets)
        without = next((entry.name for entry in store.entries if entry.name not in poses), None)
        if without is not None:
            raise PoseFileError(f"{data.root / data.poses} has no pose for {without} of {data.train}")
    weak = WeakView(config.model.size, config.scale, data.flip)
    sampling = config.model.sampling
    sources = [Source(TrainingClips(store, sampling, weak, config.seed, poses), config.optim.batch_size)]
    if config.uses_unlabelled and data.unlabel is not None:
        unlabelled = open_store(config, data.unlabel, progress, decoded)
        clips = UnlabelledClips(unlabelled, sampling, StrongView(weak, data.strong), config.seed)
        sources.append(Source(clips, config.semi.batch_size, config.semi.start_epoch))
    return sources


def evaluation_clips(config: TrainConfig, list_file: Path) -> EvaluationClips:
    """Read a list for evaluation under the recipe's preprocessing; its clips must be there."""
    model = config.model
    entries = _entries(config, list_file)
    check_files(entries, list_file)
    return EvaluationClips(entries, model.sampling, model.resize, model.size, config.data.cache_gb)


def train(config: TrainConfig, progress: bool = True, decoded: Mapping[Path, DecodedClip] | None = None) -> Path:
    """Run a recipe to its end.

    Args:
        config: the recipe.
        progress: show bars.
        decoded: frames of training clips that are in memory already; None fills the cache as the recipe says.

    Returns:
        The final checkpoint's folder, ``<out>/final``; a classifier's student is beside it in ``<out>/student``.

    Raises:
        RunError: if `out` holds a run and `resume` is off, batches cannot be cut as asked, or the loss is no longer
            finite.
        EvaluationError: if clips of the val or test list are not there; told before training.
        BrokenClipsError: if more clips than allowed do not decode.
        ListFileError, ClassesError, CheckpointError, PoseFileError: if a file the recipe names does not fit.
    """
    accelerator = create_accelerator(config.optim, config.trackers, config.out)
    if config.trackers:
        accelerator.init_trackers("curves")
    device = accelerator.device
    classes = read_classes(config)
    model = build_model(config, len(classes.labels)).to(device)
    # Plain attention trains 1.6x faster than the fused one in bf16 on CPUs; on accelerators fused wins.
    model.backbone.set_fused_attention(device.type != "cpu")
    normalizer = FrameNormalizer(config.model.mean, config.model.std).to(device)
    sources = training_sources(config, progress, decoded)

    step: PretextStep | ClassificationStep
    if config.task == "pretext":
        step = PretextStep(PoseRegressor(model, len(config.pretext.targets or POSE_NAMES)), normalizer)
        judged = {FINAL: model}
    else:
        step = ClassificationStep(
            model,
            normalizer,
            config.method,
            config.semi,
            config.perturbation,
            config.optim.epochs,
            len(sources[-1]),
            0 if config.semi.teacher_warmup else config.semi.start_epoch * steps_per_epoch(sources, config.optim),
            config.regularization.label_smoothing,
        )
        judged = {FINAL: step.average.module, STUDENT: model}

    def judge(name: str, clips: EvaluationClips, progress: bool = False) -> EvaluationReport:
        predict = torch_predictor(judged[name], normalizer, device)
        return evaluate_clips(predict, clips, classes, workers=config.data.workers, progress=progress)

    evaluate = None
    if config.task == "classify" and config.data.val is not None:
        val = evaluation_clips(config, config.data.val)

        def evaluate() -> Figures:
            teacher, student = _headline(judge(FINAL, val)), _headline(judge(STUDENT, val))
            return teacher | {f"student_{key}": value for key, value in student.items()}

    test = None
    if config.task == "classify" and config.data.test is not None:
        test = evaluation_clips(config, config.data.test)
    if config.task == "classify" and config.uses_unlabelled and RULES[config.method].mixes:
        alone = config.semi.batch_size == accelerator.num_processes * config.optim.accumulate
        if alone:
            raise RunError("one unlabelled clip a part has none to be mixed with; raise semi.batch_size")
    loop = TrainingLoop(
        step.to(device),
        sources,
        config.optim,
        RunFolder(config.out, _fingerprint(config)),
        accelerator,
        seed=config.seed,
        workers=config.data.workers,
        evaluate=evaluate,
        checkpoint_every=config.checkpoint_every,
        checkpoint_steps=config.checkpoint_steps,
        resume=config.resume,
        progress=progress,
    )
    last = loop.run()
    if accelerator.is_main_process:
        metrics: dict[str, object] = {"last_epoch": last}
        # Saved before they are tested: a test clip that does not decode must not cost the training.
        for name, chosen in judged.items():
            save_checkpoint(config.out / name, chosen, _describe(config, classes, metrics))
        if test is not None:
            for name, chosen in judged.items():
                report = judge(name, test, progress)
                logger.info("test of %s: %s", name, _headline(report))
                tested = metrics | {"test": report.model_dump(mode="json")}
                save_checkpoint(config.out / name, chosen, _describe(config, classes, tested))
    accelerator.end_training()
    return config.out / FINAL


def _fingerprint(config: TrainConfig) -> dict[str, object]:
    """What makes a training what it is, the contents of its lists included; where data lie may change."""
    data = config.data
    lists = [data.train, data.unlabel if config.uses_unlabelled else None]
    contents = [hashlib.sha256((data.root / file).read_bytes()).hexdigest() for file in lists if file is not None]
    kept = {"task", "method", "seed", "model", "regularization", "optim", "semi", "pretext", "init"}
    varied = data.model_dump(mode="json", include={"scale", "flip", "strong"})
    return config.model_dump(mode="json", include=kept) | {"data": varied, "lists": contents}


def _describe(config: TrainConfig, classes: ClassTable, metrics: dict[str, object]) -> CheckpointInfo:
    return CheckpointInfo(
        model=config.model,
        dataset=config.data.name,
        labels=classes.labels,
        attributes=classes.attributes,
        opposites=classes.opposites,
        recipe=config.model_dump(mode="json"),
        metrics=metrics,
    )


def _headline(report: EvaluationReport) -> Figures:
    figures = {"top1": report.top1, "top5": report.top5}
    if report.opposite_pairs is not None:
        figures["opposite_pairs"] = report.opposite_pairs
    return figures
