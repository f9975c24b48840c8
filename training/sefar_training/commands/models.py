"""The commands `sefar export` and `sefar convert`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Literal

import typer

from sefar_serve.cli.triton import TritonName
from sefar_serve.optional import needs_extra


def export(
    checkpoint: Annotated[Path, typer.Argument(help="checkpoint folder written by `sefar train`")],
    out: Annotated[Path, typer.Option("--out", "-o", help="ONNX file to write")] = Path("model.onnx"),
    repository: Annotated[
        Path | None, typer.Option("--repository", help="publish to this Triton model repository instead of --out")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="the name that clients pass as `model`")] = None,
    version: Annotated[
        str | None, typer.Option("--version", help="version of the weights (default: 1; in a repository the next one)")
    ] = None,
    triton_name: TritonName = "sefar_encoder",
    estimated_joints: Annotated[
        bool,
        typer.Option("--estimated-joints", help="serve a model that was trained on true joints on estimated ones"),
    ] = False,
) -> None:
    """Export a checkpoint to one self-describing ONNX file, and check it against torch."""
    with needs_extra("train"):
        from sefar_serve.pose import make_estimator
        from sefar_training.export import export_checkpoint
    estimator = make_estimator() if estimated_joints else None
    if repository is None:
        typer.echo(str(export_checkpoint(checkpoint, out, name, version or "1", estimator)))
        return
    with needs_extra("triton"):
        from sefar_serve.triton_server.repository import publish, versions
    newest = max(versions(repository, triton_name), default=0)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        typer.echo(str(export_checkpoint(checkpoint, file, name, version or str(newest + 1), estimator)))
        typer.echo(str(publish(file, repository, triton_name)))


def convert(
    source: Annotated[
        str, typer.Argument(help="the authors' .pyth file; a timm ViT (name or file); a TimeSformer (folder or hub id)")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="checkpoint folder to write")],
    kind: Annotated[
        Literal["sefar", "timm", "timesformer"] | None,
        typer.Option("--format", help="what SOURCE is (default: detected)"),
    ] = None,
    architecture: Annotated[
        str | None, typer.Option("--architecture", help="timm's name for the ViT in a file")
    ] = None,
    num_heads: Annotated[
        int | None, typer.Option("--num-heads", min=1, help="attention heads, where the source does not say")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option("--labels", help="class names, line n is class n (default: class_0, class_1 …)")
    ] = None,
    sample_frames: Annotated[
        str | None, typer.Option("--sample-frames", help="frames per element (default: the source's, else 2,2,4)")
    ] = None,
    size: Annotated[int | None, typer.Option("--size", min=16, help="pixels (default: the source's)")] = None,
    name: Annotated[str, typer.Option("--name", help="name of the data set")] = "unnamed",
) -> None:
    """Convert pretrained weights to a checkpoint folder, to export or to start training from."""
    with needs_extra("train"):
        from sefar_training.convert import convert as convert_weights
    report = convert_weights(
        source,
        out,
        kind,
        architecture=architecture,
        num_heads=num_heads,
        labels=labels,
        sample_frames=None if sample_frames is None else _numbers(sample_frames),
        size=size,
        name=name,
    )
    typer.echo(str(report))


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(f"{text!r}: give numbers separated by commas, e.g. 2,2,4") from error
