"""One training run from a recipe: combines data, model, task and loop."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Mapping
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sefar_serve.clip import ClipError
from sefar_serve.lists import ClipKey
from sefar_serve.pose import Estimator

from .calibration import Calibrated, calibrate, mean_tokens
from .checkpoint import build, describe, init_backbone, save_checkpoint
from .config import TrainConfig
from .data import DecodedClip, EvaluationClips, EvaluationJoints, MissingClipsError
from .evaluation import EvaluationReport, Predictor, evaluate_clips, torch_predictor
from .inputs import create_inputs, read_classes
from .linear import train_linear
from .loop import Figures, RunFolder, TrainingLoop, create_accelerator
from .model import SefarModel
from .recipe import RecipeError
from .run_folder import FINAL, STUDENT
from .semisupervised.task import classify
from .task import Inputs, Setup, TaskFactory

logger = logging.getLogger(__name__)

TASKS = "sefar.tasks"
"""Each entry point of this group names a `TaskFactory`: what an installed package, e.g. a data set, adds to train."""


def find_task(name: str) -> TaskFactory:
    """Find a task by its name in recipes: ``classify``, or one that an installed package adds.

    Raises:
        RecipeError: there is no such task.
    """
    if name == "classify":
        return classify
    added = entry_points(group=TASKS)
    if name not in added.names:
        raise RecipeError(f"no task {name!r}; choose one of {', '.join(['classify', *sorted(added.names)])}")
    factory: TaskFactory = added[name].load()
    return factory


def build_model(config: TrainConfig, classes: int) -> SefarModel:
    """Build the recipe's model with seeded weights, or with the backbone of `init` if given."""
    torch.manual_seed(config.seed)
    model = build(config.model, classes, config.regularization.drop_path)
    if config.init is not None:
        init_backbone(model, config.init)
    if config.regularization.freeze_stem:
        model.backbone.freeze_stem()
    return model


def train(
    config: TrainConfig,
    progress: bool = True,
    decoded: Mapping[ClipKey, DecodedClip] | None = None,
    estimator: Estimator | None = None,
    resume: bool = False,
    stoppable: bool = False,
) -> Path:
    """Train from a recipe until the last epoch, or until it stops early.

    Args:
        config: the recipe.
        progress: show progress bars.
        decoded: frames of training clips that are already in memory; None fills the cache as the recipe says.
        estimator: for the stream ``pose``, finds the joints that are not stored yet; None for MediaPipe's.
        resume: resume the run in `out`, if there is one.
        stoppable: Ctrl-C ends the training after its first epoch, and the best weights so far become the checkpoint.

    Returns:
        The folder of the final checkpoint, ``<out>/final``. For a classifier this is the moving average or the student,
        whichever is right more often on the val list at the end; without a val list, or if both are equal, the average.
        The student is also in ``<out>/student``.

    Raises:
        RecipeError: there is no such task, or the recipe lacks what the task needs.
        RunError: `out` has a run and `resume` is off, batches cannot be split as configured, or the loss is not
            finite.
        MissingClipsError: clips are missing; reported before training.
        BrokenClipsError: more clips than allowed do not decode.
        PoseSetupError: the pose models are missing and cannot be downloaded.
        JointCacheError, StoredJointsError: joints cannot be stored, or stored ones are not those that are needed.
        ListFileError, ClassesError, CheckpointError: a file that the recipe names is missing or does not fit.
    """
    if config.method == "linear":
        return train_linear(config, progress, estimator)
    make_task = find_task(config.task)
    accelerator = create_accelerator(config.optim, config.trackers, config.out)
    if config.trackers:
        accelerator.init_trackers("curves")
    device = accelerator.device
    classes = read_classes(config)
    model = build_model(config, len(classes.labels)).to(device)
    # In bf16 on CPUs, plain attention trains 1.6x faster than fused attention; on accelerators fused is faster.
    model.backbone.set_fused_attention(device.type != "cpu")
    inputs = create_inputs(config, progress, decoded, estimator)
    normalizer = inputs.normalizer.to(device)
    parts = accelerator.num_processes * config.optim.accumulate
    task = make_task(Setup(config, model, inputs, parts))

    # Opened before training, so that missing clips are reported at once.
    val, test = (
        inputs.evaluation(file) if task.classifies and file is not None else None
        for file in (config.data.val, config.data.test)
    )

    def judge(name: str, clips: EvaluationClips | EvaluationJoints) -> EvaluationReport:
        predict = torch_predictor(task.models[name], normalizer, device)
        return evaluate_clips(predict, clips, classes, workers=config.data.workers)

    def judge_all(clips: EvaluationClips | EvaluationJoints) -> Figures:
        figures: Figures = {}
        for name in task.models:
            prefix = "" if name == FINAL else f"{name}_"
            figures |= {prefix + key: value for key, value in _headline(judge(name, clips)).items()}
        return figures

    loop = TrainingLoop(
        task.step.to(device),
        task.sources,
        config.optim,
        RunFolder(config.out, _fingerprint(config)),
        accelerator,
        seed=config.seed,
        workers=config.data.workers,
        evaluate=None if val is None else partial(judge_all, val),
        checkpoint_every=config.checkpoint_every,
        checkpoint_steps=config.checkpoint_steps,
        watch_from=config.semi.start_epoch if config.uses_unlabelled else 0,
        stoppable=stoppable,
        resume=resume,
        progress=progress,
    )
    last = loop.run()
    if accelerator.is_main_process:
        sources = final_sources(task.models, last)
        described: dict[str, dict[str, object]] = {
            name: {"last_epoch": last} | ({"weights": _WEIGHTS.get(source, source)} if task.classifies else {})
            for name, source in sources.items()
        }
        # Saved before testing: a test clip that does not decode must not cost the trained model.
        for name, source in sources.items():
            info = describe(config, classes, described[name], inputs.origin)
            save_checkpoint(config.out / name, task.models[source], info)
        finished = {source: Calibrated(task.models[source]) for source in dict.fromkeys(sources.values())}
        if val is not None:
            for source, trained in finished.items():
                predict = torch_predictor(trained.model, normalizer, device)
                tokens = _reference(inputs, config, predict)
                finished[source] = calibrate(trained.model, predict, val, tokens, config.data.workers)

        def save_all() -> None:
            for name, source in sources.items():
                done = finished[source]
                info = describe(config, classes, described[name], inputs.origin, done.temperature)
                save_checkpoint(config.out / name, done.model, info, done.typical)

        save_all()
        if test is not None:
            for source, done in finished.items():
                report = evaluate_clips(
                    torch_predictor(done.model, normalizer, device),
                    test,
                    classes,
                    workers=config.data.workers,
                    progress=progress,
                )
                for name in (name for name, of in sources.items() if of == source):
                    logger.info("test of %s: %s", name, _headline(report))
                    described[name]["test"] = report.model_dump(mode="json")
            save_all()
    accelerator.end_training()
    return config.out / FINAL


def _reference(inputs: Inputs, config: TrainConfig, predict: Predictor) -> NDArray[np.float32] | None:
    """Mean tokens of labelled training clips; None if they cannot be read once more."""
    try:
        return mean_tokens(predict, inputs.evaluation(config.data.train), config.data.workers)
    except (ClipError, OSError, MissingClipsError) as error:
        logger.warning("the model will not measure familiarity: %s", error)
        return None


_WEIGHTS = {FINAL: "average", STUDENT: "student"}
"""What the weights of a classifier's models are."""


def final_sources(models: Collection[str], last: Figures) -> dict[str, str]:
    """Which model each checkpoint holds: its own, but `FINAL` the student if that is better on the val list.

    Args:
        models: names of the task's models.
        last: figures of the last epoch, with ``top1`` and ``student_top1`` if there is a val list.
    """
    sources = {name: name for name in models}
    if STUDENT in sources and last.get(f"{STUDENT}_top1", 0) > last.get("top1", 0):
        logger.info(
            "final has the student's weights: top1 %.4g on the val list, the moving average %.4g",
            last[f"{STUDENT}_top1"],
            last["top1"],
        )
        sources[FINAL] = STUDENT
    return sources


VARIED = {"scale", "flip", "strong", "strong_labelled", "balance"}
"""Fields of a recipe's `data` that change what is learned from the same lists."""


def _fingerprint(config: TrainConfig) -> dict[str, object]:
    """What must be unchanged for a run to resume, including the contents of its lists. Data may move."""
    data = config.data
    lists = [data.train, data.unlabel if config.uses_unlabelled else None]
    contents = [hashlib.sha256((data.root / file).read_bytes()).hexdigest() for file in lists if file is not None]
    kept = {"task", "method", "seed", "model", "regularization", "optim", "semi", "pretext", "init", "joint_views"}
    varied = data.model_dump(mode="json", include=VARIED)
    return config.model_dump(mode="json", include=kept) | {"data": varied, "lists": contents}


def _headline(report: EvaluationReport) -> Figures:
    figures = {"top1": report.top1, "top5": report.top5}
    if report.opposite_pairs is not None:
        figures["opposite_pairs"] = report.opposite_pairs
    return figures
