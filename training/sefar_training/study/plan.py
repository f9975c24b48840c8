"""What a study compares: a recipe, its variants, seeds, and the labels each seed may see."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sefar_serve.errors import SefarError

from ..config import TrainConfig, load_recipe
from ..data import ListEntry, read_list
from ..task import FINAL

STUDIES = Path(__file__).parents[2] / "studies"
"""Studies that ship with the package's source."""


class StudyError(SefarError, ValueError):
    """A study cannot be read, or does not fit its recipe or data."""


class Study(BaseModel):
    """A sweep.

    Attributes:
        title: for people to read.
        note: a paragraph under the title, such as how data and label rate were chosen.
        recipe: YAML recipe that all runs share; relative to the study's file.
        labels: percent of each class's training clips that keep their label; the others become unlabelled. Every
            seed draws its own, and all variants of a seed share them.
        seeds: of the runs.
        overrides: ``dotted.key: value`` changes of the recipe for all runs.
        variants: name to further changes.
        baseline: the variant that gains are counted from.
        focus: the variant that is looked at closely.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    note: str = ""
    recipe: Path
    labels: float = Field(gt=0, lt=100)
    seeds: tuple[int, ...] = Field(min_length=1)
    overrides: dict[str, Any] = {}
    variants: dict[str, dict[str, Any]] = Field(min_length=1)
    baseline: str
    focus: str

    @model_validator(mode="after")
    def _named(self) -> Study:
        for name in (self.baseline, self.focus):
            if name not in self.variants:
                raise ValueError(f"{name!r} is none of the variants {', '.join(self.variants)}")
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError("a seed is given twice")
        return self


@dataclass(frozen=True)
class Run:
    """One training of a study.

    Attributes:
        variant: its name in the study.
        seed: its seed.
        config: the recipe as it is run.
    """

    variant: str
    seed: int
    config: TrainConfig

    @property
    def checkpoint(self) -> Path:
        """Where the trained model is, once it is trained."""
        return self.config.out / FINAL


def find_study(name: str) -> Path:
    """A study by the path of its file, or by its name among those that ship.

    Raises:
        StudyError: if there is none.
    """
    for path in (Path(name), STUDIES / f"{name}.yaml"):
        if path.is_file():
            return path
    known = ", ".join(sorted(path.stem for path in STUDIES.glob("*.yaml")))
    raise StudyError(f"no study {name!r}; give a YAML file, or one of: {known}")


def load_study(path: Path) -> Study:
    """Read a study.

    Raises:
        StudyError: if the file is no YAML mapping, or a key or value is wrong.
    """
    try:
        fields = yaml.safe_load(path.read_text(encoding="utf-8"))
        study = Study(**fields)
    except (yaml.YAMLError, TypeError) as error:
        raise StudyError(f"{path} is not a study: {error}") from error
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'study'}: {e['msg']}" for e in error.errors())
        raise StudyError(f"{path}: {wrong}") from error
    return study.model_copy(update={"recipe": path.parent / study.recipe})


def plan_runs(study: Study, out: Path, overrides: Sequence[str] = ()) -> list[Run]:
    """Every run of a study, seeds outermost so that a table fills row by row.

    Label lists are written to ``<out>/lists/<seed>``.

    Args:
        study: what to run.
        out: folder of the study.
        overrides: further ``dotted.key=value`` changes of the recipe, e.g. ``data.root=…``.

    Raises:
        RecipeError: if a variant does not fit the recipe.
        ListFileError: if the training list is malformed.
    """
    shared = [f"{key}={yaml.safe_dump(value, default_flow_style=True)}" for key, value in study.overrides.items()]
    base = load_recipe(study.recipe, [*shared, *overrides])
    data = base.data
    entries = read_list(data.root / data.train, data.root, data.remap)
    runs = []
    for seed in study.seeds:
        lists = out.resolve() / "lists" / str(seed)
        labelled, unlabelled = split_labels(entries, study.labels, seed)
        _write_list(lists / "train.csv", labelled)
        _write_list(lists / "unlabel.csv", unlabelled)
        for variant, changes in study.variants.items():
            own = [f"{key}={yaml.safe_dump(value, default_flow_style=True)}" for key, value in changes.items()]
            places = [
                f"out={out / 'runs' / _folder(variant) / str(seed)}",
                f"data.train={lists / 'train.csv'}",
                f"data.unlabel={lists / 'unlabel.csv'}",
                f"seed={seed}",
            ]
            runs.append(Run(variant, seed, load_recipe(study.recipe, [*shared, *own, *overrides, *places])))
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
    new = path.with_suffix(".new")
    new.write_text("".join(f"{entry.name} {entry.label}\n" for entry in entries), encoding="utf-8")
    new.replace(path)


def _folder(variant: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in variant)


def by_variant(runs: Sequence[Run]) -> Iterator[tuple[str, list[Run]]]:
    """The runs of each variant, in the study's order."""
    for variant in dict.fromkeys(run.variant for run in runs):
        yield variant, [run for run in runs if run.variant == variant]
