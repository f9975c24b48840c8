"""The command `sefar evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sefar_serve.cli import console
from sefar_serve.cli.options import JsonOption, path_prefixes
from sefar_serve.cores import available_cores
from sefar_serve.optional import needs_extra

from .options import DeviceOption, JointsOption, RemapOption, RootOption
from .stop import stoppable


def evaluate(
    model: Annotated[Path, typer.Argument(metavar="CKPT|ONNX", help="checkpoint folder, or exported .onnx file")],
    list_file: Annotated[Path, typer.Argument(metavar="LIST", help="list file, a line `path label` for each clip")],
    root: RootOption = Path(),
    remap: RemapOption = None,
    temporal_views: Annotated[int, typer.Option("--temporal-views", min=1, help="views of each clip over time")] = 1,
    spatial_crops: Annotated[
        int, typer.Option("--spatial-crops", min=1, max=3, help="square crops of each frame, 1 or 3")
    ] = 1,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="clips per forward pass")] = 32,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="decoding threads (default: one per core)")
    ] = None,
    device: DeviceOption = "auto",
    joints: JointsOption = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="folder for report.json and report.html")] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure a model on a list of clips: accuracy, opposite pairs, calibration, reliability."""
    with needs_extra("train"):
        from sefar_training.commands.console import print_evaluation
        from sefar_training.evaluation import Views, evaluate_model
        from sefar_training.evaluation.report import report_json, write_report
    with stoppable():
        report = evaluate_model(
            model,
            list_file,
            root,
            path_prefixes(remap),
            batch_size=batch_size,
            workers=workers or available_cores(),
            views=Views(temporal_views, spatial_crops),
            device=device,
            joints=joints,
        )
    about = (str(model), str(list_file))
    if as_json:
        typer.echo(report_json(report, *about))
    elif out is None:
        print_evaluation(report, *about)
    if out is not None:
        for file in write_report(report, out, *about):
            console.err.print(f"report: {file}", highlight=False, markup=False, soft_wrap=True)
