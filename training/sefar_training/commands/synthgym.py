"""The command `sefar synth`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sefar_serve.optional import needs_extra


def synth(
    out: Annotated[Path, typer.Argument(help="folder to write the data set to")],
    preset: Annotated[str, typer.Option("--preset", help="easy or standard")] = "standard",
    seed: Annotated[int, typer.Option("--seed", min=0, help="the same seed gives the same bytes")] = 0,
    joints: Annotated[
        bool, typer.Option("--joints", help="also write the true joints, for models of joints; see data.true_joints")
    ] = False,
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="processes (default: one per core)")] = None,
) -> None:
    """Render SynthGym, the built-in data set: videos, labels, attributes, lists, contact sheets, joints."""
    with needs_extra("synth"):
        from sefar_training.synthgym import write_dataset
    typer.echo(str(write_dataset(out, preset=preset, seed=seed, workers=workers, joints=joints)))
