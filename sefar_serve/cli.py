"""The command `sefar`: every capability of the product from a terminal.

Training commands import torch only when they run, and say what to install when it is missing.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from pydantic import BaseModel, TypeAdapter, ValidationError
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sefar_serve import __version__, answers, console
from sefar_serve.clip import ClipError
from sefar_serve.engine import EngineError
from sefar_serve.logs import configure_logging
from sefar_serve.recognition import ClipInput, Recognised, Recognizer, Span
from sefar_serve.schemas import Classification, Embedding, ErrorBody, ItemError
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

Item = TypeVar("Item", bound=BaseModel)


@app.command(add_help_option=False, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def serve(ctx: typer.Context) -> None:
    """Run the HTTP gateway; `sefar serve --help` lists every setting."""
    from sefar_serve.server import serve as run

    # The settings class makes its own flags, so that a setting has one name and one description.
    run(Settings(_cli_parse_args=ctx.args))


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
    span = Span(start, end, window, stride)

    def local(index: int, found: Recognised, recognizer: Recognizer) -> Classification:
        return answers.classification(found, recognizer.engine.metadata, index=index, top_k=top_k)

    if url is None:
        items = _locally(files, model, span, local)
    else:
        kind = TypeAdapter[Classification | ItemError](Classification | ItemError)
        items = _remotely(files, url, api_key, "classify", kind, {"top_k": top_k, **_fields(span)})
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
    wanted = [part.strip() for part in include.split(",")]
    if not set(wanted) <= {"embedding", "tokens"}:
        raise typer.BadParameter(f"{include!r}: choose embedding, tokens, or both separated by a comma")
    span = Span(start, end, window, stride)

    def local(index: int, found: Recognised, recognizer: Recognizer) -> Embedding:
        return answers.embedding(found, recognizer.engine.metadata, index=index, include=wanted, as_base64=False)

    if url is None:
        items = _locally(files, model, span, local)
    else:
        kind = TypeAdapter[Embedding | ItemError](Embedding | ItemError)
        options = {"include": wanted, "encoding_format": "float", **_fields(span)}
        items = _remotely(files, url, api_key, "embed", kind, options)
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
    from sefar_serve.engine.onnx import OnnxModel

    loaded = OnnxModel(_settings(model).model)
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
    synthgym = _training_module("sefar_training.synthgym", extra="synth")
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
    config = _training_module("sefar_training.config", extra="train")
    trainer = _training_module("sefar_training.train", extra="train")
    loop = _training_module("sefar_training.loop", extra="train")
    configure_logging("info", "text")
    changes = [*(overrides or []), *(["resume=true"] if resume else [])]
    try:
        checkpoint = trainer.train(config.load_recipe(recipe, changes))
    except loop.RunError as error:
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
    exporter = _training_module("sefar_training.export", extra="train")
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


def _locally(
    files: Sequence[Path],
    model: Path | None,
    span: Span,
    answer: Callable[[int, Recognised, Recognizer], Item],
) -> list[Item | ItemError]:
    """Run files through a model in this process."""
    from sefar_serve.server import make_engine

    settings = _settings(model)

    async def run() -> list[Item | ItemError]:
        recognizer = Recognizer(
            make_engine(settings),
            decode_threads=settings.decode_threads,
            max_decoding=settings.max_decoding,
            limits=settings.clip_limits,
            max_windows=settings.max_windows,
        )
        async with recognizer:

            async def one(index: int, file: Path) -> Item | ItemError:
                [found] = await recognizer.recognise([ClipInput(str(file), lambda: file)], span)
                if isinstance(found, Recognised):
                    return answer(index, found, recognizer)
                return _item_error(index, str(file), found)

            return await _each(files, one, at_once=2 * settings.decode_threads + settings.max_batch)

    return asyncio.run(run())


def _remotely(
    files: Sequence[Path],
    url: str,
    api_key: str | None,
    call: str,
    kind: TypeAdapter[Item | ItemError],
    options: dict[str, Any],
) -> list[Item | ItemError]:
    """Send files to a running gateway, a few at a time."""
    import httpx

    from sefar_client import AsyncClient, GatewayError

    async def run() -> list[Item | ItemError]:
        async with AsyncClient(url, api_key=api_key) as client:

            async def one(index: int, file: Path) -> Item | ItemError:
                try:
                    answer = await getattr(client, call)(file, **options)
                except GatewayError as error:
                    body = ErrorBody(message=str(error), type="gateway", param=error.param, code=error.code)
                    return ItemError(index=index, name=str(file), error=body)
                except FileNotFoundError as error:
                    return _item_error(index, str(file), error)
                except httpx.TransportError as error:
                    raise ConnectionError(f"no gateway answers at {url}: {error}") from error
                return kind.validate_python(answer["data"][0] | {"index": index, "name": str(file)})

            return await _each(files, one, at_once=8)

    return asyncio.run(run())


async def _each(
    files: Sequence[Path], one: Callable[[int, Path], Awaitable[Item | ItemError]], *, at_once: int
) -> list[Item | ItemError]:
    """Apply `one` to all files, some at once, under a progress bar; results in the order of the files."""
    places = asyncio.Semaphore(at_once)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console.err, transient=True, disable=len(files) < 2) as progress:
        bar = progress.add_task("videos", total=len(files))

        async def bounded(index: int, file: Path) -> Item | ItemError:
            async with places:
                item = await one(index, file)
            progress.advance(bar)
            return item

        return list(await asyncio.gather(*(bounded(i, file) for i, file in enumerate(files))))


def _item_error(index: int, name: str, error: Exception) -> ItemError:
    from sefar_serve.api.errors import problem_of

    if isinstance(error, OSError):
        code = "file_not_found" if isinstance(error, FileNotFoundError) else "unreadable_file"
        body = ErrorBody(message=f"{name}: {error.strerror or error}", type="file_error", param=None, code=code)
    else:
        body = problem_of(error).body
    return ItemError(index=index, name=name, error=body)


def _fields(span: Span) -> dict[str, float | None]:
    return {"start": span.start, "end": span.end, "window": span.window, "stride": span.stride}


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


def _training_module(name: str, *, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"this command needs packages that are not installed ({error.name}); "
            f"install them with: pip install 'sefar-serve[{extra}]'"
        ) from error
