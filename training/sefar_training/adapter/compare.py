"""The question that the paper answers with yes: do SeFAR's features make a better captioner than others?

One recipe, several encoders or none, several seeds, the same questions to all, and always the classifiers beside.
The table can say no.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..config import RecipeError
from .config import AdapterRecipe, load_adapter_recipe, read_mapping, told
from .evaluate import evaluate_folder
from .measures import AdapterReport
from .train import FINAL, train_adapter

REPORT = "report.json"


class Comparison(BaseModel):
    """What is compared.

    Attributes:
        title: for people to read.
        note: a paragraph under the title.
        recipe: YAML recipe that all adapters share; relative to the comparison's file.
        test: list of clips that none was trained on; relative to the recipe's ``data.root``.
        seeds: of the adapters.
        overrides: ``dotted.key: value`` changes of the recipe for all.
        variants: name to further changes, e.g. ``encoder`` or ``features: none``.
        focus: the variant whose claim is tested; its classifier also draws the hard options of all.
        questions: most clips that questions are asked about; None for all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    note: str = ""
    recipe: Path
    test: Path
    seeds: tuple[int, ...] = Field(min_length=1)
    overrides: dict[str, Any] = {}
    variants: dict[str, dict[str, Any]] = Field(min_length=1)
    focus: str
    questions: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _named(self) -> Comparison:
        if self.focus not in self.variants:
            raise ValueError(f"{self.focus!r} is none of the variants {', '.join(self.variants)}")
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError("a seed is given twice")
        return self


@dataclass(frozen=True)
class AdapterRun:
    """One adapter of a comparison.

    Attributes:
        variant: its name.
        seed: its seed.
        recipe: the recipe as it is run.
    """

    variant: str
    seed: int
    recipe: AdapterRecipe

    @property
    def report(self) -> Path:
        """Where its figures are, once it is trained and measured."""
        return self.recipe.out / REPORT


def load_comparison(path: Path) -> Comparison:
    """Read a comparison.

    Raises:
        RecipeError: the file is no YAML mapping, or a key or value is wrong.
    """
    try:
        found = Comparison(**read_mapping(path))
    except ValidationError as error:
        raise RecipeError(told(path, error)) from error
    return found.model_copy(update={"recipe": path.parent / found.recipe})


def plan_comparison(comparison: Comparison, out: Path, overrides: Sequence[str] = ()) -> list[AdapterRun]:
    """Every adapter of a comparison, seeds outermost so that a table fills row by row.

    Raises:
        RecipeError: a variant does not fit the recipe.
    """
    runs = []
    for seed in comparison.seeds:
        for variant, changes in comparison.variants.items():
            folder = out / "".join(c if c.isalnum() else "_" for c in variant) / str(seed)
            keys = [
                *_pairs(comparison.overrides),
                *_pairs(changes),
                *overrides,
                "data.test=null",
                f"out={folder}",
                f"seed={seed}",
            ]
            runs.append(AdapterRun(variant, seed, load_adapter_recipe(comparison.recipe, keys)))
    return runs


def _pairs(changes: dict[str, Any]) -> list[str]:
    return [f"{key}={yaml.safe_dump(value, default_flow_style=True)}" for key, value in changes.items()]


def run_comparison(
    comparison: Comparison, out: Path, overrides: Sequence[str] = (), progress: bool = True
) -> list[tuple[AdapterRun, AdapterReport]]:
    """Train and measure every adapter that is not yet; those found in `out` are not done again.

    Args:
        comparison: what to run.
        out: folder of the runs and the page.
        overrides: further ``dotted.key=value`` changes of the recipe.
        progress: show bars.

    Raises:
        RecipeError, ModelLoadError, ListFileError, EvaluationError, ClipError: as `train_adapter` does.
    """
    runs = plan_comparison(comparison, out, overrides)
    referee = next(run.recipe.encoder for run in runs if run.variant == comparison.focus)
    found = []
    for run in runs:
        if not run.report.is_file():
            recipe = run.recipe
            if not (recipe.out / FINAL).is_dir():
                train_adapter(recipe, progress)
            report = evaluate_folder(
                recipe.out / FINAL,
                recipe.data.root / comparison.test,
                recipe.data.root,
                recipe.encoder,
                remap=recipe.data.remap,
                referee=referee,
                blind=recipe.features == "none",
                limit=comparison.questions,
                cache=recipe.cache,
                progress=progress,
            )
            new = run.report.with_name(f"{REPORT}.new")
            new.write_text(report.model_dump_json(indent=1) + "\n", encoding="utf-8")
            new.replace(run.report)
        found.append((run, AdapterReport.model_validate_json(run.report.read_text(encoding="utf-8"))))
    return found
