"""The ways to make a model from a user's clips, the simplest first, and which of them can be tried."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sefar_serve.lists import UNKNOWN
from sefar_serve.metadata import Stream
from sefar_serve.quantity import quantity

from ..config import ORDERED_FRAMES, TrainConfig, load_recipe
from ..recipe import as_overrides, find_recipe
from ..start import Prepared
from .trial import Candidate

BALANCED = "data.balance=true"

JOINTS_LINEAR = Candidate(
    "joints-linear", "logistic regression on joints", "pose", "linear", "own_linear", ("model.stream=pose",)
)
FRAMES_LINEAR = Candidate("frames-linear", "logistic regression on image features", "rgb", "linear", "own_linear")
JOINTS_NETWORK = Candidate(
    "joints-network", "temporal convolutions over joints", "pose", "supervised", "own_pose_16",
    ("method=supervised", BALANCED),
)  # fmt: skip
JOINTS_SEFAR = Candidate(
    "joints-sefar", "SeFAR on joints, with the unlabelled clips", "pose", "sefar", "own_pose_16", (BALANCED,)
)

SAME_FRAMES = f"model.sample_frames={list(ORDERED_FRAMES['rgb'])}"
"""Both streams of one model see the same frames of a clip."""

JOINTS_OF_SAME_FRAMES = replace(
    JOINTS_LINEAR, key="joints-of-same-frames", overrides=(*JOINTS_LINEAR.overrides, SAME_FRAMES)
)
BOTH_LINEAR = Candidate(
    "both-linear", "logistic regression on image features and on joints", "both", "linear", "own_linear",
    members=(FRAMES_LINEAR, JOINTS_OF_SAME_FRAMES),
)  # fmt: skip

CANDIDATES = (JOINTS_LINEAR, FRAMES_LINEAR, JOINTS_NETWORK, JOINTS_SEFAR, BOTH_LINEAR)
"""The simplest first; of two that are as good, the earlier is chosen. A model of both needs most when it is served."""

PATIENCE = 10
"""Epochs without a better one after which the final training stops, if there is a val list."""

FEW_UNLABELLED = 0.5
"""Unlabelled clips for each labelled one, below which learning from them is not tried."""


def learnable_clips(prepared: Prepared) -> NDArray[np.bool_]:
    """Clips whose labels may be learned from, bool (N,): in an experiment with few labels, those that were kept."""
    if prepared.labels_per_class is None:
        return prepared.labels != UNKNOWN
    kept: NDArray[np.bool_] = np.isin(np.arange(len(prepared.rows)), prepared.splits.train)
    return kept


def find_candidates(prepared: Prepared, stream: Stream | None = None) -> tuple[list[Candidate], list[str]]:
    """Choose what to try.

    Args:
        prepared: the collection.
        stream: only what sees this; None for any.

    Returns:
        The candidates, and for what is left out a sentence that says why.
    """
    kept = [one for one in CANDIDATES if stream in (None, one.stream)]
    labelled, unlabelled = int(learnable_clips(prepared).sum()), len(prepared.splits.unlabelled)
    if JOINTS_SEFAR in kept and unlabelled < FEW_UNLABELLED * labelled:
        kept.remove(JOINTS_SEFAR)
        beside = f"{quantity(unlabelled, 'unlabelled clip')} beside {labelled} labelled ones"
        return kept, [f"{JOINTS_SEFAR.title}: not tried, with {beside}."]
    return kept, []


@dataclass(frozen=True)
class Recipes:
    """Makes the recipes of candidates on a user's clips.

    Attributes:
        prepared: the collection.
        labels: file of the class names.
        name: name of the data set and of the exported model.
        overrides: the user's changes, ``key=value``, which win.
    """

    prepared: Prepared
    labels: Path
    name: str
    overrides: tuple[str, ...] = ()

    def make(self, candidate: Candidate, out: Path, train: Path, **others: Path | None) -> TrainConfig:
        """The recipe of a candidate.

        Args:
            candidate: what to train.
            out: folder of the run.
            train: list of the labelled clips.
            others: the lists ``unlabel``, ``val`` and ``test``, if there are such.

        Raises:
            RecipeError: an override is wrong.
        """
        files = {"train": train, "unlabel": None, "val": None, "test": None} | others
        fixed: dict[str, object] = {
            "out": str(out),
            "seed": self.prepared.seed,
            "data.name": self.name,
            "data.root": str(self.prepared.collection.root),
            "data.labels": str(self.labels.absolute()),
            **{f"data.{key}": None if file is None else str(file.absolute()) for key, file in files.items()},
        }
        if candidate.method != "linear" and files["val"] is not None:
            fixed["optim.patience"] = PATIENCE
        recipe = find_recipe(Path(candidate.recipe), TrainConfig)
        return load_recipe(recipe, [*candidate.overrides, *as_overrides(fixed), *self.overrides])
