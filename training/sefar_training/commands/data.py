"""The command `sefar lists`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sefar_serve.cli.options import JsonOption, path_prefixes
from sefar_serve.optional import needs_extra

from .options import RemapOption


def lists(
    places: Annotated[list[Path], typer.Argument(metavar="FILE_OR_DIR", help="list files, or folders of them")],
    root: Annotated[
        Path | None, typer.Option("--root", help="folder of the clips; check that each clip exists")
    ] = None,
    remap: RemapOption = None,
    labels: Annotated[Path | None, typer.Option("--labels", help="file of class names, line n is class n")] = None,
    check: Annotated[bool, typer.Option("--check", help="decode the frames of each clip that evaluation uses")] = False,
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="processes (default: one per core)")] = None,
    as_json: JsonOption = False,
) -> None:
    """Check list files: sizes, classes, missing and broken clips, clips that two lists share."""
    if check and root is None:
        raise typer.BadParameter("--check needs --root, the folder of the clips")
    prefixes = path_prefixes(remap)
    with needs_extra("train"):
        from sefar_training.data import ClassTable
        from sefar_training.data.survey import find_lists, survey_lists
    classes = None if labels is None else len(ClassTable.read(labels).labels)
    survey = survey_lists(find_lists(places), root, prefixes, classes=classes, check=check, workers=workers)
    if as_json:
        typer.echo(survey.model_dump_json())
    else:
        with needs_extra("train"):
            from sefar_training.commands.console import print_survey
        print_survey(survey)
    if not survey.sound:
        raise typer.Exit(1)
