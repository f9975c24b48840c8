"""Planning a sweep: which runs it has, with which recipe and folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..recipe import as_overrides
from ..run_folder import FINAL


class Sweep(BaseModel):
    """What is trained.

    Attributes:
        title: for people to read.
        note: a paragraph under the title.
        recipe: YAML recipe that all runs share.
        seeds: of the runs.
        overrides: ``dotted.key: value`` changes of the recipe for all runs.
        variants: name to further changes.
        focus: the variant that the page is about.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    note: str = ""
    recipe: Path
    seeds: tuple[int, ...] = Field(min_length=1)
    overrides: dict[str, Any] = {}
    variants: dict[str, dict[str, Any]] = Field(min_length=1)
    focus: str

    @model_validator(mode="after")
    def _consistent(self) -> Sweep:
        self._check_variant(self.focus)
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError("a seed is given twice")
        folders = {folder_name(variant): variant for variant in self.variants}
        for variant in self.variants:
            other = folders[folder_name(variant)]
            if other != variant:
                raise ValueError(f"variants {variant!r} and {other!r} would share a folder; rename one of them")
        return self

    def _check_variant(self, name: str) -> None:
        if name not in self.variants:
            raise ValueError(f"{name!r} is none of the variants {', '.join(self.variants)}")


class Config(Protocol):
    """A recipe as it is run; `out` is the folder of the run."""

    @property
    def out(self) -> Path:
        """Folder of the run."""
        ...


C = TypeVar("C", bound=Config)


@dataclass(frozen=True)
class Run(Generic[C]):
    """One training of a sweep.

    Attributes:
        variant: its name in the sweep.
        seed: its seed.
        config: the recipe as it is run.
    """

    variant: str
    seed: int
    config: C

    @property
    def checkpoint(self) -> Path:
        """Where the trained model is, once it is trained."""
        return self.config.out / FINAL


def folder_name(variant: str) -> str:
    """A variant's name as a folder."""
    return "".join(c if c.isalnum() else "_" for c in variant)


def plan_runs(
    sweep: Sweep,
    folder: Path,
    load: Callable[[Path, Sequence[str]], C],
    overrides: Sequence[str] = (),
    of_seed: Callable[[int], Sequence[str]] = lambda seed: (),
) -> list[Run[C]]:
    """Plan every run of a sweep, seeds outermost, so that a table fills row by row.

    Args:
        sweep: what to train.
        folder: of the runs; each has ``VARIANT/SEED`` in it.
        load: reads the recipe with overrides.
        overrides: ``dotted.key=value`` changes of the recipe for all runs.
        of_seed: further changes for all runs of a seed, e.g. its lists; nothing overrides these.

    Raises:
        RecipeError: a variant does not fit the recipe.
    """
    shared = as_overrides(sweep.overrides)
    runs = []
    for seed in sweep.seeds:
        for variant, changes in sweep.variants.items():
            place = [f"out={folder / folder_name(variant) / str(seed)}", f"seed={seed}"]
            changed = [*shared, *as_overrides(changes), *overrides, *of_seed(seed), *place]
            runs.append(Run(variant, seed, load(sweep.recipe, changed)))
    return runs


def by_variant(runs: Sequence[Run[C]]) -> Iterator[tuple[str, list[Run[C]]]]:
    """The runs of each variant, in the sweep's order."""
    for variant in dict.fromkeys(run.variant for run in runs):
        yield variant, [run for run in runs if run.variant == variant]
