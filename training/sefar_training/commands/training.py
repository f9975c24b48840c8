"""The commands `sefar train` and `sefar study`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sefar_serve.logs import configure_logging
from sefar_serve.optional import needs_extra

from .options import Overrides


def train(
    recipe: Annotated[Path, typer.Argument(help="YAML recipe, e.g. training/recipes/synthgym_sefar.yaml")],
    overrides: Overrides = None,
    resume: Annotated[bool, typer.Option("--resume", help="continue from the last checkpoint")] = False,
) -> None:
    """Train a model from a recipe."""
    with needs_extra("train"):
        from sefar_training.config import load_recipe
        from sefar_training.train import train as run
    configure_logging("info", "text")
    changes = [*(overrides or []), *(["resume=true"] if resume else [])]
    typer.echo(f"checkpoint: {run(load_recipe(recipe, changes))}")


def study(
    name: Annotated[str, typer.Argument(help="a study that ships, e.g. synthgym, or a YAML file")],
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="folder (default: runs/study_NAME)")] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", min=1, help="trainings at a time (default: one per core)")
    ] = None,
) -> None:
    """Train a recipe's variants over several seeds and report on one page. An interrupted study resumes."""
    with needs_extra("train"):
        from sefar_training.study import find_study, load_study, run_study, write_study
    path = find_study(name)
    folder = out or Path("runs") / f"study_{path.stem}"
    plan = load_study(path)
    runs = run_study(plan, folder, overrides or [], jobs)
    for written in write_study(plan, runs, folder):
        typer.echo(str(written))
