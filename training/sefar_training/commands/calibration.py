"""The command `sefar calibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sefar_serve.cli.options import path_prefixes
from sefar_serve.cores import available_cores
from sefar_serve.logs import configure_logging
from sefar_serve.optional import needs_extra

from .options import DeviceOption, JointsOption, RemapOption, RootOption


def calibrate(
    model: Annotated[Path, typer.Argument(metavar="CKPT|ONNX", help="checkpoint folder, or exported .onnx file")],
    train: Annotated[Path, typer.Option("--train", metavar="LIST", help="clips that the model was trained on")],
    val: Annotated[Path, typer.Option("--val", metavar="LIST", help="clips that it was not trained on")],
    root: RootOption = Path(),
    remap: RemapOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="ONNX file to write (default: replace the file)")
    ] = None,
    joints: JointsOption = None,
    device: DeviceOption = "auto",
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="decoding threads (default: one per core)")
    ] = None,
) -> None:
    """Let a model say how familiar a clip is. Training with a val list has done this already.

    A checkpoint also gets calibrated probabilities; export it afterwards. An exported file keeps its weights.
    """
    with needs_extra("train"):
        from sefar_training.calibration.file import calibrate_file
    configure_logging("info", "text")
    report = calibrate_file(
        model,
        train,
        val,
        root,
        out,
        remap=path_prefixes(remap),
        joints=joints,
        device=device,
        workers=workers or available_cores(),
    )
    typer.echo(str(report))
