"""The command `sefar`: every capability of the product from a terminal.

Training commands import torch only when they run, and say what to install when it is missing.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer
from pydantic import TypeAdapter, ValidationError
from rich.markup import escape

from sefar_client import GatewayError
from sefar_serve import __version__
from sefar_serve.api.server import serve as serve_gateway
from sefar_serve.cli import console
from sefar_serve.cli import text as text_commands
from sefar_serve.cli.contact_sheet import SheetClip, contact_sheet
from sefar_serve.cli.extract import extract
from sefar_serve.cli.options import (
    EndOption,
    Files,
    JsonOption,
    KeyOption,
    ModelOption,
    StartOption,
    StrideOption,
    UrlOption,
    WindowOption,
    needs_engine,
    path_prefixes,
    settings_for,
)
from sefar_serve.cli.triton import TritonName
from sefar_serve.cli.triton import app as triton
from sefar_serve.errors import SefarError
from sefar_serve.logs import configure_logging
from sefar_serve.optional import optional_module
from sefar_serve.schemas.problem import ItemError
from sefar_serve.schemas.video import Classification, Embedding
from sefar_serve.settings import Settings
from sefar_training.commands.adapter import app as adapter

app = typer.Typer(
    name="sefar",
    help="Fine-grained action recognition: serve it, classify and embed videos, train and export models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(triton, name="triton")
app.add_typer(adapter, name="adapter")


@app.command(add_help_option=False, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def serve(ctx: typer.Context) -> None:
    """Run the HTTP gateway; `sefar serve --help` lists every setting."""
    # The settings class makes its own flags, so that a setting has one name and one description.
    settings = Settings(_cli_parse_args=ctx.args)
    needs_engine(settings)
    serve_gateway(settings)


@app.command()
def classify(
    files: Files,
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, help="labels per clip")] = 5,
    start: StartOption = None,
    end: EndOption = None,
    window: WindowOption = None,
    stride: StrideOption = None,
    model: ModelOption = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
    as_json: JsonOption = False,
    sheet: Annotated[
        Path | None, typer.Option("--sheet", help="draw the frames the model looked at into this PNG")
    ] = None,
) -> None:
    """Label videos: fine-grained classes, scores, and how far to trust them (η)."""
    from sefar_serve.cli.files import Place, look_at

    kind = TypeAdapter[Classification | ItemError](Classification | ItemError)
    asked = {"top_k": top_k, "start": start, "end": end, "window": window, "stride": stride}
    items = look_at(files, Place(model, url=url, api_key=api_key), "classify", kind, asked)
    if as_json:
        console.print_json(items)
    else:
        console.print_classifications(items)
    if sheet is not None:
        _draw(files, items, sheet)
    console.exit_by(items)


@app.command()
def embed(
    files: Files,
    include: Annotated[str, typer.Option("--include", help="embedding, tokens, or embedding,tokens")] = "embedding",
    start: StartOption = None,
    end: EndOption = None,
    window: WindowOption = None,
    stride: StrideOption = None,
    model: ModelOption = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Turn videos into vectors: a clip embedding, and a token per temporal element."""
    from sefar_serve.cli.files import Place, look_at

    wanted = [part.strip() for part in include.split(",")]
    if not set(wanted) <= {"embedding", "tokens"}:
        raise typer.BadParameter(f"{include!r}: choose embedding, tokens, or both separated by a comma")
    kind = TypeAdapter[Embedding | ItemError](Embedding | ItemError)
    asked = {"include": wanted, "start": start, "end": end, "window": window, "stride": stride}
    items = look_at(files, Place(model, url=url, api_key=api_key), "embed", kind, asked)
    if as_json:
        console.print_json(items)
    else:
        console.print_embeddings(items)
    console.exit_by(items)


app.command()(text_commands.caption)
app.command()(text_commands.ask)
app.command()(extract)


@app.command()
def info(
    model: Annotated[
        Path | None, typer.Argument(help="ONNX file (default: SEFAR_MODEL, else the shipped model)")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a model says of itself: classes, sampling, sizes."""
    settings = settings_for(model)
    loaded = optional_module("sefar_serve.engine.onnx", extra="cpu").OnnxModel(settings.model)
    if as_json:
        typer.echo(loaded.metadata.model_dump_json())
    else:
        console.print_model(loaded.metadata, str(loaded.path), loaded.provider, loaded.path.stat().st_size)


@app.command()
def synth(
    out: Annotated[Path, typer.Argument(help="folder to write the data set to")],
    preset: Annotated[str, typer.Option("--preset", help="easy or standard")] = "standard",
    seed: Annotated[int, typer.Option("--seed", min=0, help="the same seed gives the same bytes")] = 0,
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="processes (default: one per core)")] = None,
) -> None:
    """Make SynthGym, the embedded data set: videos, labels, attributes, lists, contact sheets."""
    synthgym = optional_module("sefar_training.synthgym", extra="synth")
    summary = synthgym.write_dataset(out, preset=preset, seed=seed, workers=workers)
    typer.echo(str(summary))


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(help="YAML recipe, e.g. training/recipes/synthgym_sefar.yaml")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]…", help="change the recipe, e.g. optim.lr=3e-4")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on from the last checkpoint")] = False,
) -> None:
    """Train a model by a recipe."""
    config = optional_module("sefar_training.config", extra="train")
    trainer = optional_module("sefar_training.train", extra="train")
    loop = optional_module("sefar_training.loop", extra="train")
    clips = optional_module("sefar_training.data.clips", extra="train")
    configure_logging("info", "text")
    changes = [*(overrides or []), *(["resume=true"] if resume else [])]
    try:
        checkpoint = trainer.train(config.load_recipe(recipe, changes))
    except (loop.RunError, clips.BrokenClipsError) as error:
        _fail(error)
    typer.echo(f"checkpoint: {checkpoint}")


@app.command()
def evaluate(
    model: Annotated[Path, typer.Argument(metavar="CKPT|ONNX", help="checkpoint folder, or exported .onnx file")],
    list_file: Annotated[Path, typer.Argument(metavar="LIST", help="list file, a line `path label` for each clip")],
    root: Annotated[Path, typer.Option("--root", help="folder that relative paths in the list start from")] = Path(),
    remap: Annotated[
        list[str] | None, typer.Option("--remap", metavar="OLD=NEW", help="replace a prefix of the paths in the list")
    ] = None,
    temporal_views: Annotated[int, typer.Option("--temporal-views", min=1, help="looks at each clip over time")] = 1,
    spatial_crops: Annotated[
        int, typer.Option("--spatial-crops", min=1, max=3, help="squares cut from each picture, 1 or 3")
    ] = 1,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="clips a forward pass")] = 32,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="decoding threads (default: one per core)")
    ] = None,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option("--device", help="where the model runs")] = "auto",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="folder for report.json and report.html")] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure a model on a list of clips: accuracy, opposites, calibration, reliability."""
    evaluation = optional_module("sefar_training.evaluation", extra="train")
    writer = optional_module("sefar_training.evaluation.report", extra="train")
    report = evaluation.evaluate_model(
        model,
        list_file,
        root,
        path_prefixes(remap),
        batch_size=batch_size,
        workers=workers or os.cpu_count() or 1,
        views=evaluation.Views(temporal_views, spatial_crops),
        device=device,
    )
    about = (str(model), str(list_file))
    if as_json:
        typer.echo(writer.report_json(report, *about))
    elif out is None:
        optional_module("sefar_training.commands.console", extra="train").print_evaluation(report, *about)
    if out is not None:
        for file in writer.write_report(report, out, *about):
            console.err.print(f"report: {file}", highlight=False, markup=False, soft_wrap=True)


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="checkpoint folder written by `sefar train`")],
    out: Annotated[Path, typer.Option("--out", "-o", help="ONNX file to write")] = Path("model.onnx"),
    repository: Annotated[
        Path | None, typer.Option("--repository", help="put it into this Triton model repository instead of --out")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="name users address the model by")] = None,
    version: Annotated[
        str | None, typer.Option("--version", help="version of the weights (default: 1; in a repository the next one)")
    ] = None,
    triton_name: TritonName = "sefar_encoder",
) -> None:
    """Export a checkpoint to one self-describing ONNX file, and check it against torch."""
    exporter = optional_module("sefar_training.export", extra="train")
    try:
        if repository is None:
            typer.echo(str(exporter.export_checkpoint(checkpoint, out, name=name, version=version or "1")))
            return
        shelf = optional_module("sefar_serve.triton_server.repository", extra="triton")
        newest = max(shelf.versions(repository, triton_name), default=0)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "model.onnx"
            typer.echo(str(exporter.export_checkpoint(checkpoint, file, name=name, version=version or str(newest + 1))))
            typer.echo(str(shelf.publish(file, repository, triton_name)))
    except exporter.ParityError as error:
        _fail(error)


@app.command()
def convert(
    source: Annotated[
        str, typer.Argument(help="the authors' .pyth file; a timm ViT (name or file); a TimeSformer (folder or hub id)")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="checkpoint folder to write")],
    kind: Annotated[str | None, typer.Option("--format", help="sefar, timm or timesformer (default: find out)")] = None,
    architecture: Annotated[
        str | None, typer.Option("--architecture", help="timm's name of the ViT that a file holds")
    ] = None,
    num_heads: Annotated[
        int | None, typer.Option("--num-heads", min=1, help="attention heads, where the source does not tell")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option("--labels", help="class names, line n is class n (default: class_0, class_1 …)")
    ] = None,
    sample_frames: Annotated[
        str | None, typer.Option("--sample-frames", help="frames per element (default: the source's, else 2,2,4)")
    ] = None,
    size: Annotated[int | None, typer.Option("--size", min=16, help="pixels (default: the source's)")] = None,
    name: Annotated[str, typer.Option("--name", help="what the data set is called")] = "unnamed",
) -> None:
    """Convert weights of others to a checkpoint folder: to export, or to start training from."""
    converter = optional_module("sefar_training.convert", extra="train")
    report = converter.convert(
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


@app.command()
def lists(
    places: Annotated[list[Path], typer.Argument(metavar="FILE_OR_DIR", help="list files, or folders of them")],
    root: Annotated[
        Path | None, typer.Option("--root", help="folder of the clips; look for each of them there")
    ] = None,
    remap: Annotated[
        list[str] | None, typer.Option("--remap", metavar="OLD=NEW", help="replace a prefix of the paths in the lists")
    ] = None,
    labels: Annotated[Path | None, typer.Option("--labels", help="file of class names, line n is class n")] = None,
    check: Annotated[bool, typer.Option("--check", help="decode what an evaluation takes of every clip")] = False,
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="processes (default: one per core)")] = None,
    as_json: JsonOption = False,
) -> None:
    """Look through list files: sizes, classes, missing and broken clips, clips that two lists share."""
    if check and root is None:
        raise typer.BadParameter("--check needs --root, the folder of the clips")
    prefixes = path_prefixes(remap)
    surveyor = optional_module("sefar_training.data.survey", extra="train")
    classes = None
    if labels is not None:
        table = optional_module("sefar_training.data.classes", extra="train")
        classes = len(table.ClassTable.read(labels).labels)
    survey = surveyor.survey_lists(
        surveyor.find_lists(places),
        root,
        prefixes,
        classes=classes,
        check=check,
        workers=workers,
    )
    if as_json:
        typer.echo(survey.model_dump_json())
    else:
        optional_module("sefar_training.commands.console", extra="train").print_survey(survey)
    if not survey.sound:
        raise typer.Exit(1)


@app.command()
def study(
    name: Annotated[str, typer.Argument(help="a study that ships, e.g. synthgym, or a YAML file")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]…", help="change the recipe of all runs")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="folder (default: runs/study_NAME)")] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", min=1, help="trainings at a time (default: one per core)")
    ] = None,
) -> None:
    """Train a recipe's variants over seeds, measure them, and write one page; goes on where it was stopped."""
    studies = optional_module("sefar_training.study", extra="train")
    path = studies.find_study(name)
    folder = out or Path("runs") / f"study_{path.stem}"
    plan = studies.load_study(path)
    runs = studies.run_study(plan, folder, overrides or [], jobs)
    for written in studies.write_study(plan, runs, folder):
        typer.echo(str(written))


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="print the version and exit")] = False,
) -> None:
    """Show the version."""
    if version:
        typer.echo(f"sefar-serve {__version__}")
        raise typer.Exit


def main() -> None:
    """Entry point: errors that a user can mend are told in one line, without a traceback."""
    try:
        app()
    except ValidationError as error:
        for problem in error.errors():
            console.err.print(f"[red]error:[/] {escape('.'.join(map(str, problem['loc'])) + ': ' + problem['msg'])}")
        raise SystemExit(2) from error
    except (SefarError, GatewayError, OSError, ValueError, ModuleNotFoundError) as error:
        _fail(error)


def _fail(error: Exception) -> NoReturn:
    console.err.print(f"[red]error:[/] {escape(str(error))}", highlight=False)
    raise SystemExit(1) from error


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(f"{text!r}: give numbers separated by commas, e.g. 2,2,4") from error


def _draw(files: Sequence[Path], items: Sequence[Classification | ItemError], sheet: Path) -> None:
    clips = [
        SheetClip(
            file,
            f"{Path(item.name).name}   {console.label_text(item.labels[0])}   reliability {item.reliability:.2f}",
            item.clip.frames,
            item.clip.duration,
        )
        for file, item in zip(files, items, strict=True)
        if isinstance(item, Classification)
    ]
    if clips:
        console.err.print(f"contact sheet: {contact_sheet(clips, sheet)}")
