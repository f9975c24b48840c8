"""The clips of a set, their folds, and the draws of labels."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sefar_serve.errors import SefarError
from sefar_serve.lists import ClipKey

ALL = 0
"""Labels a class: every one there is."""

MOVING = ("walk", "stand up", "sit down", "fall", "lie down")
"""Classes of the room in which somebody moves. In the others the room or the posture decides, not the motion."""

CLASSES: dict[str, tuple[str, ...] | None] = {"tennis": None, "room": MOVING}
"""Classes of each set; None for all in its manifest."""


class StudyError(SefarError, RuntimeError):
    """The study cannot run; the message says what is missing."""


class Draw(NamedTuple):
    """Numbers of clips: what a run learns from, and what it is judged by."""

    labelled: list[int]
    unlabelled: list[int]
    held: list[int]


@dataclass(frozen=True)
class ClipSet:
    """Clips with folds.

    Attributes:
        name: of the set.
        root: folder of the clips.
        paths: relative to `root`.
        classes: names, sorted.
        labels: class of each clip, int64 (N,).
        folds: fold of each clip, int64 (N,).
    """

    name: str
    root: Path
    paths: tuple[str, ...]
    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    folds: NDArray[np.int64]

    @property
    def files(self) -> list[ClipKey]:
        """The clips, which are whole files."""
        return [ClipKey(self.root / path) for path in self.paths]

    @property
    def fold_numbers(self) -> list[int]:
        """Numbers of the folds, ascending."""
        return [int(fold) for fold in np.unique(self.folds)]

    def draw(self, count: int, held: Sequence[int], number: int) -> Draw:
        """Draw the clips of a run.

        Args:
            count: labels a class, or `ALL`. A class with fewer clips gives all it has.
            held: the folds that are left out. One fold: a reported run. Two: a run that chooses settings. Their draws
                have different seeds.
            number: of the draw.
        """
        rng = np.random.default_rng((len(held), *held, number))
        open_ = ~np.isin(self.folds, held)
        labelled: list[int] = []
        for label in range(len(self.classes)):
            shuffled = rng.permutation(np.flatnonzero(open_ & (self.labels == label))).tolist()
            labelled += shuffled if count == ALL else shuffled[:count]
        unlabelled = sorted(set(np.flatnonzero(open_).tolist()) - set(labelled))
        return Draw(labelled, unlabelled, self.held(held))

    def held(self, folds: Sequence[int]) -> list[int]:
        """Numbers of the clips in these folds, ascending."""
        found: list[int] = np.flatnonzero(np.isin(self.folds, folds)).tolist()
        return found


def read_set(name: str, shared: Path) -> ClipSet:
    """Read the manifest of a set.

    Args:
        name: a key of `CLASSES`.
        shared: the folder of shared data.

    Raises:
        StudyError: there is no manifest.
    """
    root = shared / "real" / name
    manifest = root / "manifest.csv"
    if not manifest.is_file():
        raise StudyError(f"{manifest} does not exist; set SEFAR_SHARED_DATA to the folder that holds real/{name}")
    with manifest.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    wanted = CLASSES[name] or {row["label"] for row in rows}
    rows = [row for row in rows if row["label"] in wanted]
    classes = tuple(sorted(wanted))
    return ClipSet(
        name,
        root,
        tuple(row["path"] for row in rows),
        classes,
        np.array([classes.index(row["label"]) for row in rows]),
        np.array([int(row["fold"]) for row in rows]),
    )
