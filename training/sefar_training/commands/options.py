"""Options that several training commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]…", help="change the recipe, e.g. optim.lr=3e-4")
]
RootOption = Annotated[Path, typer.Option("--root", help="folder that relative paths in the list start from")]
RemapOption = Annotated[
    list[str] | None, typer.Option("--remap", metavar="OLD=NEW", help="replace a prefix of the paths in the lists")
]
DeviceOption = Annotated[Literal["auto", "cpu", "cuda"], typer.Option("--device", help="where the model runs")]
JointsOption = Annotated[
    Path | None,
    typer.Option("--joints", help="folder of joints, for models that see them (default: .sefar/joints in the root)"),
]
