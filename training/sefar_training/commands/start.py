"""The command `sefar init`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from sefar_serve.cli.options import JsonOption
from sefar_serve.optional import needs_extra

from .videos import BackgroundOption, FormatOption, GroupOption, LabelsOption, RootOption, Videos, run_folder


def init(
    place: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="folder of videos, or a table or annotations of them"),
    ],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="folder of the run (default: runs/NAME)")] = None,
    root: RootOption = None,
    format: FormatOption = None,
    group: GroupOption = "auto",
    labels_per_class: LabelsOption = None,
    background: BackgroundOption = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="seed of the split")] = 0,
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="threads (default: one per core)")] = None,
    as_json: JsonOption = False,
) -> None:
    """Look at your videos before training: check, group and split them, and write lists.

    DIR has a folder for each class, or train/, val/ and test/ with such folders, or a table with the columns path,label
    and, if you like, start,end,group,split (CSV, JSON lines, Parquet). Annotations of ActivityNet, Label Studio, VIA,
    CVAT and FiftyOne, and lists of `path label` lines, are read too.
    """
    with needs_extra("train"):
        from sefar_training.commands.start_console import print_prepared
        from sefar_training.start import check_out, summary, write_prepared
    folder = run_folder(place, out)
    check_out(folder)
    videos = Videos(root, format, group, labels_per_class, background, seed)
    prepared = videos.prepare(place, folder, workers)
    write_prepared(prepared, folder)
    if as_json:
        typer.echo(json.dumps(summary(prepared), ensure_ascii=False))
    else:
        print_prepared(prepared, folder)
    if not prepared.trainable:
        raise typer.Exit(1)
