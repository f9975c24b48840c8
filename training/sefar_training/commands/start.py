"""The command `sefar init`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from sefar_serve.cli.options import JsonOption
from sefar_serve.optional import needs_extra

FormatName = Literal["folders", "table", "list", "activitynet", "label-studio", "via", "cvat", "fiftyone"]

YOUR_VIDEOS = "Your videos"
"""Heading of these options in the help."""

Root = Annotated[
    Path | None,
    typer.Option(
        "--root", help="folder of the videos (default: DIR, or that of the table)", rich_help_panel=YOUR_VIDEOS
    ),
]
FormatOption = Annotated[
    FormatName | None, typer.Option("--format", help="format (default: found out)", rich_help_panel=YOUR_VIDEOS)
]
Group = Annotated[
    str,
    typer.Option(
        "--group",
        metavar="RULE",
        help="which clips belong together: auto (column or folders, else file names, else similarity), looks, "
        "files, none, or a regular expression for paths",
        rich_help_panel=YOUR_VIDEOS,
    ),
]
LabelsPerClass = Annotated[
    int | None,
    typer.Option(
        "--labels-per-class",
        min=1,
        metavar="N",
        help="use N labels of each class; hide the others",
        rich_help_panel=YOUR_VIDEOS,
    ),
]


def init(
    place: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="folder of videos, or a table or annotations of them"),
    ],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="folder of the run (default: runs/NAME)")] = None,
    root: Root = None,
    format: FormatOption = None,
    group: Group = "auto",
    labels_per_class: LabelsPerClass = None,
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
        from sefar_training.start import cache_folder, check_out, prepare, summary, write_prepared
    folder = out or Path("runs") / (place.absolute().name if place.is_dir() else place.stem)
    check_out(folder)
    base = (root or (place if place.is_dir() else place.parent)).absolute()
    prepared = prepare(
        place,
        root=root,
        format=format,
        group=group,
        labels_per_class=labels_per_class,
        seed=seed,
        cache=cache_folder(base, folder.absolute()),
        threads=workers,
    )
    write_prepared(prepared, folder)
    if as_json:
        typer.echo(json.dumps(summary(prepared), ensure_ascii=False))
    else:
        print_prepared(prepared, folder)
    if not prepared.trainable:
        raise typer.Exit(1)
