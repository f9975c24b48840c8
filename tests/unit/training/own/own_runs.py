"""A small collection of clips with made-up judgements of its models."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from small_videos import encode

from sefar_training.own.report import RunFacts
from sefar_training.own.trial import Candidate, Choice, Judged, Trial, judge
from sefar_training.start import Prepared, prepare
from sefar_training.weights import LITE0

CLASSES = ("jump", "turn")
CLIPS = 12

JOINTS = Candidate("joints", "logistic regression on joints", "pose", "linear", "own_linear")
STILL = Candidate("still", "a still frame", "rgb", "linear", "own_linear")


def collection(folder: Path, classes: tuple[str, ...] = CLASSES, *, one_group: bool = False) -> Prepared:
    """Twelve clips of three places; the last one has no label."""
    with (folder / "clips.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["path", "label", "group"])
        for i in range(CLIPS):
            encode(folder / f"clip{i:02d}.mp4", frames=8, brightness=10 * i)
            label = classes[i % len(classes)] if i < CLIPS - 1 else ""
            table.writerow([f"clip{i:02d}.mp4", label, "hall" if one_group else f"place{i // 4}"])
    return prepare(folder / "clips.csv", progress=False)


def judged(prepared: Prepared, wrong: tuple[int, ...] = (), probability: float = 0.8) -> Judged:
    """Clips get their own class with a probability, `wrong` ones the next class."""
    labels, count = prepared.labels, len(prepared.classes)
    probabilities: NDArray[np.float64] = np.full((len(labels), count), (1 - probability) / (count - 1))
    for i, label in enumerate(labels.tolist()):
        probabilities[i, (label + (i in wrong)) % count] = probability
    probabilities[labels < 0] = np.nan
    return judge(probabilities, labels, prepared.groups.of)


def choice(prepared: Prepared, wrong: tuple[int, ...] = (1,), control: tuple[int, ...] = tuple(range(6))) -> Choice:
    """Joints were chosen; a still frame is wrong about the clips `control`."""
    new = judged(prepared, wrong) if prepared.folds.count else None
    trial = Trial(JOINTS, new, judged(prepared), 12.0)
    still = Trial(STILL, judged(prepared, control) if new else None, judged(prepared, control), 3.0)
    return Choice(JOINTS, (trial,), still, ("Joints are better in new places.",))


def facts(folder: Path, name: str = "my-model") -> RunFacts:
    """A run that left a linear model."""
    return RunFacts(
        name, folder / "run" / "final", folder / "a run" / "model.onnx", "pose", 754.0,
        weights=(LITE0,),
    )  # fmt: skip
