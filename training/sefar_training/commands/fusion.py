"""The command `sefar fuse`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sefar_serve.atomic import atomic_file
from sefar_serve.cli.options import JsonOption, path_prefixes
from sefar_serve.cores import available_cores
from sefar_serve.optional import needs_extra

from .options import DeviceOption, JointsOption, RemapOption, RootOption
from .stop import stoppable


def fuse(
    rgb: Annotated[Path, typer.Argument(metavar="RGB", help="model of frames: checkpoint folder or .onnx file")],
    pose: Annotated[Path, typer.Argument(metavar="POSE", help="model of joints: checkpoint folder or .onnx file")],
    val: Annotated[Path, typer.Option("--val", metavar="LIST", help="list to choose the weight on")],
    test: Annotated[Path | None, typer.Option("--test", metavar="LIST", help="list to measure the result on")] = None,
    root: RootOption = Path(),
    remap: RemapOption = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="ONNX file to write")] = Path("both.onnx"),
    name: Annotated[str | None, typer.Option("--name", help="the name that clients pass as `model`")] = None,
    version: Annotated[str, typer.Option("--version", help="version of the weights")] = "1",
    joints: JointsOption = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="clips per forward pass")] = 32,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="decoding threads (default: one per core)")
    ] = None,
    device: DeviceOption = "auto",
    report: Annotated[Path | None, typer.Option("--report", help="JSON file for the figures")] = None,
    as_json: JsonOption = False,
) -> None:
    """Join a model of frames and a model of joints into one ONNX file that sees both.

    The weight of the joints is the one that predicts the list of --val best.
    """
    with needs_extra("train"):
        from sefar_training.commands.console import print_fusion
        from sefar_training.fusion import fuse as fuse_models
    with stoppable():
        done = fuse_models(
            rgb,
            pose,
            out,
            val,
            root,
            test=test,
            name=name,
            version=version,
            remap=path_prefixes(remap),
            joints=joints,
            device=device,
            batch_size=batch_size,
            workers=workers or available_cores(),
        )
    if report is not None:
        report.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(report) as new:
            new.write_text(done.model_dump_json(indent=1) + "\n", encoding="utf-8")
    if as_json:
        typer.echo(done.model_dump_json())
    else:
        print_fusion(done)
