"""A study: a sweep whose seeds each draw their own labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import Field, model_validator

from sefar_serve.atomic import atomic_file
from sefar_serve.errors import SefarError
from sefar_serve.lists import write_list

from ..config import TrainConfig, load_recipe
from ..data import ListEntry, read_list
from ..recipe import as_overrides, read_recipe, shipped
from ..sweep.plan import Run, Sweep, plan_runs

STUDIES = shipped("studies")
"""Studies that ship."""

StudyRun = Run[TrainConfig]


class StudyError(SefarError, ValueError):
    """There is no such study, or its recipe does not fit a study."""


class Study(Sweep):
    """A sweep over training methods of a classifier.

    Attributes:
        labels: percentage of each class's training clips that keep their label; the others become unlabelled. Every
            seed draws its own labels, and all variants of a seed share them.
        baseline: the variant that gains are measured against.
    """

    labels: float = Field(gt=0, lt=100)
    baseline: str

    @model_validator(mode="after")
    def _baseline_is_a_variant(self) -> Study:
        self._check_variant(self.baseline)
        return self


def find_study(name: str) -> Path:
    """Find a study by the path of its file, or by its name among those that ship.

    Raises:
        StudyError: there is none.
    """
    for path in (Path(name), STUDIES / f"{name}.yaml"):
        if path.is_file():
            return path
    known = ", ".join(sorted(path.stem for path in STUDIES.glob("*.yaml")))
    raise StudyError(f"no study {name!r}; give a YAML file, or one of: {known}")


def load_study(path: Path) -> Study:
    """Read a study; its recipe's path is relative to its file.

    Raises:
        RecipeError: the file is not a YAML mapping, or a key or value is wrong.
    """
    study = read_recipe(path, Study)
    return study.model_copy(update={"recipe": path.parent / study.recipe})


def plan_study(study: Study, out: Path, overrides: Sequence[str] = ()) -> list[StudyRun]:
    """Plan the runs of a study, and write each seed's lists to ``<out>/lists/<seed>``.

    Args:
        study: what to run.
        out: folder of the study.
        overrides: further ``dotted.key=value`` changes of the recipe, e.g. ``data.root=…``.

    Raises:
        RecipeError: a variant does not fit the recipe.
        StudyError: the recipe's model sees joints, or a variant has the method ``linear``.
        ListFileError: the training list is malformed.
    """
    config = load_recipe(study.recipe, [*as_overrides(study.overrides), *overrides])
    if config.model.stream != "rgb":
        raise StudyError(f"a study draws what models see in frames; set model.stream to rgb, not {config.model.stream}")
    data = config.data
    entries = read_list(data.root / data.train, data.root, data.remap)
    lists = out.resolve() / "lists"
    for seed in study.seeds:
        labelled, unlabelled = split_labels(entries, study.labels, seed)
        _write_list(lists / str(seed) / "train.csv", labelled)
        _write_list(lists / str(seed) / "unlabel.csv", unlabelled)

    def own_labels(seed: int) -> list[str]:
        return [f"data.{name}={lists / str(seed) / name}.csv" for name in ("train", "unlabel")]

    runs = plan_runs(study, out / "runs", load_recipe, overrides, own_labels)
    if any(run.config.model.frozen for run in runs):
        raise StudyError("a study compares methods that train the backbone; leave out method linear")
    return runs


def split_labels(entries: Sequence[ListEntry], percent: float, seed: int) -> tuple[list[ListEntry], list[ListEntry]]:
    """Choose the clips of each class that keep their label: `percent` of them, at least one.

    Returns:
        Labelled and unlabelled clips, each in the order given.
    """
    rng = np.random.default_rng(seed)
    chosen: set[int] = set()
    for label in sorted({entry.label for entry in entries}):
        clips = [i for i, entry in enumerate(entries) if entry.label == label]
        count = max(1, round(len(clips) * percent / 100))
        chosen.update(int(i) for i in rng.choice(clips, count, replace=False))
    return (
        [entry for i, entry in enumerate(entries) if i in chosen],
        [entry for i, entry in enumerate(entries) if i not in chosen],
    )


def _write_list(path: Path, entries: Sequence[ListEntry]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as new:
        write_list(new, entries)
