"""Trains and exports what was chosen: one model, or one of frames and one of joints that are joined."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import yaml

from sefar_serve.atomic import atomic_file
from sefar_serve.quantity import quantity

from ..checkpoint import read_info
from ..config import WITHOUT_UNLABELLED, TrainConfig
from ..evaluation import evaluate_model
from ..export import export_checkpoint
from ..fusion import Pair, write_joined
from ..start.rows import Split
from ..train import train
from .compare import Comparison
from .report import RunFacts
from .trial import Candidate

RECIPE = "recipe.yaml"
TRAINING = "training"
MEMBERS = ("frames", "joints")
"""Folders of the members of a joined model, and the ends of their recipes' names."""

Lists = Mapping[Split, Path]


def make_model(
    candidate: Candidate,
    comparison: Comparison,
    lists: Lists,
    out: Path,
    model: Path,
    say: Callable[[str], None],
    resume: bool = False,
) -> RunFacts:
    """Train a candidate on the train list and export it.

    Args:
        candidate: what to train.
        comparison: judged it.
        lists: the lists that have clips.
        out: folder of the run; gets the recipes, and the checkpoints in a folder of their own.
        model: the ONNX file to write.
        say: told what is done, and what was found.
        resume: go on with an interrupted training.
    """
    name = comparison.recipes.name
    say(f"training on {quantity(len(comparison.prepared.splits.train), 'clip')}: {candidate.title}")
    if not candidate.members:
        config = _recipe(candidate, comparison, lists, out / TRAINING, out / RECIPE)
        checkpoint = train(config, comparison.progress, estimator=comparison.estimator, resume=resume, stoppable=True)
        export_checkpoint(checkpoint, model, name=name)
        return RunFacts.read(name, checkpoint, model)
    checkpoints = [
        train(
            _recipe(member, comparison, lists, out / TRAINING / kind, out / f"recipe_{kind}.yaml"),
            comparison.progress,
            estimator=comparison.estimator,
            resume=resume,
        )
        for kind, member in zip(MEMBERS, candidate.members, strict=True)
    ]
    files = [checkpoint.with_suffix(".onnx") for checkpoint in checkpoints]
    for checkpoint, file in zip(checkpoints, files, strict=True):
        export_checkpoint(checkpoint, file, name=name)
    # The members' scores are calibrated now, so those of cross-validation are divided by the same temperatures.
    weight = comparison.pose_weight(candidate, [read_info(one).temperature or 1.0 for one in checkpoints])
    say(f"joints have weight {weight:g}, frames {1 - weight:g}")
    write_joined(Pair(*files), weight, model, name=name)
    root = comparison.prepared.collection.root
    tested = None
    if "test" in lists:
        tested = evaluate_model(model, lists["test"], root, progress=False, estimator=comparison.estimator)
    frames, joints = (RunFacts.read(name, checkpoint, model) for checkpoint in checkpoints)
    return frames.joined(joints, weight, out / TRAINING, tested)


def _recipe(candidate: Candidate, comparison: Comparison, lists: Lists, out: Path, file: Path) -> TrainConfig:
    """The recipe of the final training, which is written to a file too."""
    others = {"val": lists.get("val"), "test": lists.get("test")}
    if candidate.method not in WITHOUT_UNLABELLED:
        others["unlabel"] = lists["unlabelled"]
    config = comparison.recipes.make(candidate, out, lists["train"], **others)
    with atomic_file(file) as new:
        new.write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), encoding="utf-8")
    return config
