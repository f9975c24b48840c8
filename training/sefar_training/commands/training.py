"""The commands `sefar train` and `sefar study`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sefar_serve.logs import configure_logging
from sefar_serve.metadata import Stream
from sefar_serve.optional import needs_extra

from .options import Overrides
from .own import OWN, train_on
from .stop import JOINTS_KEPT, stoppable
from .videos import BackgroundOption, FormatOption, GroupOption, LabelsOption, RootOption, Videos

MINUTES = 20.0


def train(
    recipe: Annotated[
        Path | None, typer.Argument(help="YAML file, or a recipe that ships, e.g. own_pose_16; not with --data")
    ] = None,
    overrides: Overrides = None,
    resume: Annotated[bool, typer.Option("--resume", help="resume the run in `out`, if there is one")] = False,
    data: Annotated[
        Path | None, typer.Option("--data", help="your videos: a folder, or a table or annotations of them", **OWN)
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="folder of the run (default: runs/NAME)", **OWN)
    ] = None,
    root: RootOption = None,
    format: FormatOption = None,
    group: GroupOption = "auto",
    labels_per_class: LabelsOption = None,
    background: BackgroundOption = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="seed of splits and models", **OWN)] = 0,
    stream: Annotated[
        Stream | None, typer.Option("--stream", help="try only what sees this (default: everything)", **OWN)
    ] = None,
    minutes: Annotated[
        float, typer.Option("--minutes", min=0, help="about how long networks may be tried", **OWN)
    ] = MINUTES,
) -> None:
    """Train a model from a recipe, or from a folder of your videos with --data.

    For --data, `sefar init --help` says what can be read. Ways to make a model are compared by cross-validation, the
    best is trained and exported, and the folder of the run has model, report and model card.
    """
    videos = Videos(root, format, group, labels_per_class, background, seed)
    if data is not None:
        changes = [*([str(recipe)] if recipe is not None else []), *(overrides or [])]
        train_on(data, out, videos, stream, minutes, changes, resume)
        return
    if recipe is None:
        raise typer.BadParameter("give a recipe, or --data with a folder of videos")
    if (out, videos, stream, minutes) != (None, Videos(), None, MINUTES):
        raise typer.BadParameter(
            "options for your videos need --data; a recipe takes changes, e.g. out=runs/NAME seed=1"
        )
    with needs_extra("train"):
        from sefar_training.config import TrainConfig, load_recipe
        from sefar_training.recipe import find_recipe
        from sefar_training.run_folder import STATE
        from sefar_training.train import train as run
    configure_logging("info", "text")
    of_folder = f" (to train on a folder of clips: sefar train --data {recipe})"
    config = load_recipe(find_recipe(recipe, TrainConfig, of_folder), overrides or [])

    def kept() -> str:
        if (config.out / STATE).exists():
            return f"Finished epochs are kept in {config.out}. To continue: the same command with --resume"
        return JOINTS_KEPT if config.model.stream == "pose" else "No epoch is finished, and nothing is kept"

    with stoppable(kept):
        typer.echo(f"checkpoint: {run(config, resume=resume)}")


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
    with stoppable(lambda: f"Finished trainings are kept in {folder}. To continue: the same command again"):
        runs = run_study(plan, folder, overrides or [], jobs)
        for written in write_study(plan, runs, folder):
            typer.echo(str(written))
