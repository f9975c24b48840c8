"""The command `sefar`: every capability of the product from a terminal.

Training commands import torch only when they run, and say what to install when it is missing.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from pydantic import BaseModel, TypeAdapter, ValidationError
from rich.markup import escape

from sefar_serve import __version__, answers, console
from sefar_serve.clip import ClipError
from sefar_serve.engine import Engine, EngineError
from sefar_serve.logs import configure_logging
from sefar_serve.metadata import ModelMetadata
from sefar_serve.recognition import Bounds, Recognised, Span
from sefar_serve.schemas import Classification, Embedding, ItemError
from sefar_serve.settings import Settings
from sefar_serve.sheet import SheetClip, contact_sheet

app = typer.Typer(
    name="sefar",
    help="Fine-grained action recognition: serve it, classify and embed videos, train and export models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Files = Annotated[list[Path], typer.Argument(metavar="FILE", help="video files", show_default=False)]
ModelOption = Annotated[
    Path | None, typer.Option("--model", "-m", help="ONNX file (default: SEFAR_MODEL, else the shipped model)")
]
UrlOption = Annotated[
    str | None, typer.Option("--url", help="use the gateway there instead of a model in this process")
]
KeyOption = Annotated[str | None, typer.Option("--api-key", envvar="SEFAR_API_KEY", help="key for --url")]
JsonOption = Annotated[bool, typer.Option("--json", help="print one JSON object a line")]
StartOption = Annotated[float | None, typer.Option("--start", min=0, help="seconds; the clip begins here")]
EndOption = Annotated[float | None, typer.Option("--end", min=0, help="seconds; the clip ends here")]
WindowOption = Annotated[
    float | None, typer.Option("--window", help="seconds; sliding windows over each video give a timeline")
]
StrideOption = Annotated[
    float | None, typer.Option("--stride", help="seconds between windows (default: half a window)")
]


@app.command(add_help_option=False, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def serve(ctx: typer.Context) -> None:
    """Run the HTTP gateway; `sefar serve --help` lists every setting."""
    # The settings class makes its own flags, so that a setting has one name and one description.
    settings = Settings(_cli_parse_args=ctx.args)
    _optional_module("sefar_serve.server", extra="cpu").serve(settings)


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
    from sefar_serve.files import run_locally, run_remotely

    span = Span(start, end, window, stride)

    def answer(index: int, found: Recognised, meta: ModelMetadata) -> Classification:
        return answers.classification(found, meta, index=index, top_k=top_k)

    if url is None:
        items = run_locally(files, *_engine(model), span, answer)
    else:
        kind = TypeAdapter[Classification | ItemError](Classification | ItemError)
        items = run_remotely(files, url, api_key, "classify", kind, {"top_k": top_k, **asdict(span)})
    if as_json:
        _print_json(items)
    else:
        console.print_classifications(items)
    if sheet is not None:
        _draw(files, items, sheet)
    _exit_by(items)


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
    from sefar_serve.files import run_locally, run_remotely

    wanted = [part.strip() for part in include.split(",")]
    if not set(wanted) <= {"embedding", "tokens"}:
        raise typer.BadParameter(f"{include!r}: choose embedding, tokens, or both separated by a comma")
    span = Span(start, end, window, stride)

    def answer(index: int, found: Recognised, meta: ModelMetadata) -> Embedding:
        return answers.embedding(found, meta, index=index, include=wanted, as_base64=False)

    if url is None:
        items = run_locally(files, *_engine(model), span, answer)
    else:
        kind = TypeAdapter[Embedding | ItemError](Embedding | ItemError)
        options = {"include": wanted, "encoding_format": "float", **asdict(span)}
        items = run_remotely(files, url, api_key, "embed", kind, options)
    if as_json:
        _print_json(items)
    else:
        console.print_embeddings(items)
    _exit_by(items)


@app.command()
def info(
    model: Annotated[
        Path | None, typer.Argument(help="ONNX file (default: SEFAR_MODEL, else the shipped model)")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a model says of itself: classes, sampling, sizes."""
    settings = _settings(model)
    loaded = _optional_module("sefar_serve.engine.onnx", extra="cpu").OnnxModel(settings.model)
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
    synthgym = _optional_module("sefar_training.synthgym", extra="synth")
    summary = synthgym.write_dataset(out, preset=preset, seed=seed, workers=workers)
    typer.echo(str(summary))


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(help="YAML recipe, e.g. training/recipes/synthgym_tiny.yaml")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]…", help="change the recipe, e.g. optim.lr=3e-4")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on from the last checkpoint")] = False,
) -> None:
    """Train a model by a recipe."""
    config = _optional_module("sefar_training.config", extra="train")
    trainer = _optional_module("sefar_training.train", extra="train")
    loop = _optional_module("sefar_training.loop", extra="train")
    clips = _optional_module("sefar_training.data.clips", extra="train")
    configure_logging("info", "text")
    changes = [*(overrides or []), *(["resume=true"] if resume else [])]
    try:
        checkpoint = trainer.train(config.load_recipe(recipe, changes))
    except (loop.RunError, clips.BrokenClipsError) as error:
        _fail(error)
    typer.echo(f"checkpoint: {checkpoint}")


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="checkpoint folder written by `sefar train`")],
    out: Annotated[Path, typer.Option("--out", "-o", help="ONNX file to write")] = Path("model.onnx"),
    name: Annotated[str | None, typer.Option("--name", help="name users address the model by")] = None,
    version: Annotated[str, typer.Option("--version", help="version of the weights")] = "1",
) -> None:
    """Export a checkpoint to one self-describing ONNX file, and check it against torch."""
    exporter = _optional_module("sefar_training.export", extra="train")
    try:
        report = exporter.export_checkpoint(checkpoint, out, name=name, version=version)
    except exporter.ParityError as error:
        _fail(error)
    typer.echo(str(report))


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
    except (ClipError, EngineError, OSError, ValueError, ModuleNotFoundError) as error:
        _fail(error)


def _fail(error: Exception) -> NoReturn:
    console.err.print(f"[red]error:[/] {escape(str(error))}", highlight=False)
    raise SystemExit(1) from error


def _settings(model: Path | None) -> Settings:
    return Settings() if model is None else Settings(model=model)


def _engine(model: Path | None) -> tuple[Engine, Bounds]:
    settings = _settings(model)
    return _optional_module("sefar_serve.server", extra="cpu").make_engine(settings), settings.bounds


def _print_json(items: Sequence[BaseModel]) -> None:
    for item in items:
        typer.echo(item.model_dump_json())


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


def _exit_by(items: Sequence[BaseModel]) -> None:
    failed = sum(isinstance(item, ItemError) for item in items)
    if failed:
        console.err.print(f"[red]{failed} of {len(items)} videos failed[/]")
        raise typer.Exit(1)


def _optional_module(name: str, *, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"this command needs packages that are not installed ({error.name}); "
            f"install them with: pip install 'sefar-serve[{extra}]'"
        ) from error
