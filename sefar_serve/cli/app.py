"""The command `sefar`.

Installed packages can add commands through the entry-point group `sefar.commands`. The training commands do.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from inspect import cleandoc
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from pydantic import TypeAdapter, ValidationError
from rich.markup import escape
from typer.core import TyperGroup
from typer.main import get_group

from sefar_client import GatewayError
from sefar_serve import __version__
from sefar_serve.cli import console
from sefar_serve.cli import text as text_commands
from sefar_serve.cli.extract import extract
from sefar_serve.cli.keys import app as keys
from sefar_serve.cli.options import (
    SECONDS,
    AnonymousOption,
    EndOption,
    Files,
    JsonOption,
    KeyOption,
    ModelOption,
    PosesOption,
    StartOption,
    StrideOption,
    UrlOption,
    WindowOption,
    check_anonymous,
    check_poses,
    check_windows,
    png_file,
    settings_for,
)
from sefar_serve.cli.pose import app as pose
from sefar_serve.cli.segments import (
    OF_SEGMENTS,
    BackgroundOption,
    Format,
    FormatOption,
    MinSegmentOption,
    OutOption,
    SmoothingOption,
    check_segments,
    chosen_format,
    save_segments,
)
from sefar_serve.cli.serve import serve
from sefar_serve.cli.sheet import save_sheet, without_joints
from sefar_serve.cli.triton import app as triton
from sefar_serve.engine.choose import load_model
from sefar_serve.errors import SefarError
from sefar_serve.schemas.problem import ItemError
from sefar_serve.schemas.video import Classification, Embedding
from sefar_serve.settings import SettingsError
from sefar_serve.validation import explain

GROUP = "sefar.commands"
"""Each entry point of this group names a Typer app; its commands become commands of `sefar`."""

SERVE = "Serve and recognise"
"""Help panel of this package's own commands."""


class Commands(TyperGroup):
    """The commands of this package and of installed packages.

    Entry points are loaded when `sefar` runs, not when this module is imported, because the packages that add commands
    import from `sefar_serve.cli` themselves.
    """

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for entry in entry_points(group=GROUP):
            self.commands.update(get_group(entry.load()).commands)
        _unwrap_help(self)

    def invoke(self, ctx: Any) -> Any:
        """Run a command. Errors about its options are in the words that all our errors have."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            if isinstance(error.__cause__, ValidationError):
                unit = " of seconds" if error.param is not None and error.param.metavar == SECONDS else ""
                error.message = explain(error.__cause__.errors()[0] | {"loc": ()}) + unit
            raise


def _unwrap_help(command: Any) -> None:
    """Join the lines of each paragraph of the help: Typer breaks them where the docstring does, at any width."""
    if command.help:
        command.help = "\n\n".join(" ".join(lines.split()) for lines in cleandoc(command.help).split("\n\n"))
    for inner in getattr(command, "commands", {}).values():
        _unwrap_help(inner)


app = typer.Typer(
    name="sefar",
    cls=Commands,
    help="Fine-grained action recognition: classify, embed and caption videos, serve, train and export models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(keys, name="keys", rich_help_panel=SERVE)
app.add_typer(pose, name="pose", rich_help_panel=SERVE)
app.add_typer(triton, name="triton", rich_help_panel=SERVE)


app.command(
    rich_help_panel=SERVE,
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)(serve)


@app.command(rich_help_panel=SERVE)
def classify(
    files: Files,
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, help="number of labels per clip")] = 5,
    start: StartOption = None,
    end: EndOption = None,
    window: WindowOption = None,
    stride: StrideOption = None,
    model: ModelOption = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
    as_json: JsonOption = False,
    form: FormatOption = None,
    out: OutOption = None,
    smoothing: SmoothingOption = None,
    min_segment: MinSegmentOption = None,
    background: BackgroundOption = None,
    sheet: Annotated[
        Path | None,
        typer.Option(
            "--sheet",
            callback=png_file,
            help="save a contact sheet of the frames that the model used as this PNG, with skeletons if it sees joints",
        ),
    ] = None,
    poses: PosesOption = False,
    anonymous: AnonymousOption = False,
) -> None:
    """Classify videos: fine-grained labels with scores, and the reliability η of each prediction.

    With --window, also the segments of long videos: from when to when which label holds.
    """
    from sefar_serve.cli.files import Place, process

    form = chosen_format(form, as_json)
    check_windows(window, stride)
    merging = {"--smoothing": smoothing, "--min-segment": min_segment, "--background": background}
    check_segments(files, form, out, window, merging)
    check_anonymous(anonymous, url)
    check_poses(poses, form is Format.JSON)
    kind = TypeAdapter[Classification | ItemError](Classification | ItemError)
    asked = {
        "top_k": top_k,
        "start": start,
        "end": end,
        "window": window or None,
        "stride": stride,
        "smoothing": smoothing,
        "min_segment": min_segment,
        "background": background,
        "poses": poses or None,
    }
    place = Place(model, url=url, api_key=api_key, anonymous=anonymous)
    items = process(files, place, "classify", kind, asked, joints_if_seen=sheet is not None)
    if form is Format.JSON:
        console.print_json(items if poses else map(without_joints, items), out)
    elif form in OF_SEGMENTS:
        save_segments(files, items, form, out)
    else:
        console.print_classifications(items)
    if sheet is not None:
        save_sheet(files, items, sheet, blank=settings_for(None, anonymous=anonymous).anonymous)
    console.exit_by(items)


@app.command(rich_help_panel=SERVE)
def embed(
    files: Files,
    include: Annotated[
        str, typer.Option("--include", help="embedding, tokens, or both: embedding,tokens")
    ] = "embedding",
    start: StartOption = None,
    end: EndOption = None,
    window: WindowOption = None,
    stride: StrideOption = None,
    model: ModelOption = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
    as_json: JsonOption = False,
    poses: PosesOption = False,
    anonymous: AnonymousOption = False,
) -> None:
    """Compute feature vectors of videos: a clip embedding and one token per temporal element."""
    from sefar_serve.cli.files import Place, process

    check_windows(window, stride)
    check_anonymous(anonymous, url)
    check_poses(poses, as_json)
    wanted = [part.strip() for part in include.split(",")]
    if not set(wanted) <= {"embedding", "tokens"}:
        raise typer.BadParameter(f"--include {include!r}: use embedding, tokens, or both separated by a comma")
    kind = TypeAdapter[Embedding | ItemError](Embedding | ItemError)
    asked = {
        "include": wanted,
        "start": start,
        "end": end,
        "window": window or None,
        "stride": stride,
        "poses": poses or None,
    }
    place = Place(model, url=url, api_key=api_key, anonymous=anonymous)
    items = process(files, place, "embed", kind, asked)
    if as_json:
        console.print_json(items)
    else:
        console.print_embeddings(items)
    console.exit_by(items)


app.command(rich_help_panel=SERVE)(text_commands.caption)
app.command(rich_help_panel=SERVE)(text_commands.ask)
app.command(rich_help_panel=SERVE)(extract)


@app.command(rich_help_panel=SERVE)
def info(
    model: Annotated[
        Path | None, typer.Argument(help="ONNX file (default: SEFAR_MODEL, else the shipped model)")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show a model's description: classes, frame sampling, sizes."""
    settings = settings_for(model)
    loaded = load_model(settings.model, runtime=settings.runtime, precision=settings.precision)
    if as_json:
        typer.echo(loaded.metadata.model_dump_json())
    else:
        console.print_model(loaded.metadata, str(loaded.path), loaded.provider, loaded.path.stat().st_size)


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="print the version and exit")] = False,
) -> None:
    """Handle the options of `sefar` itself."""
    if version:
        typer.echo(f"sefar-serve {__version__}")
        raise typer.Exit


def main() -> None:
    """Entry point; errors that a user can fix are printed in one line, without a traceback."""
    try:
        app()
    except (SefarError, GatewayError, OSError, ValueError, ModuleNotFoundError) as error:
        _fail(error)


def _fail(error: Exception) -> NoReturn:
    for line in _message(error).splitlines():
        console.err.print(f"[red]error:[/] {escape(line)}", highlight=False, soft_wrap=True)
    raise SystemExit(2 if isinstance(error, SettingsError) else 1) from error


def _message(error: Exception) -> str:
    """What to print. The system's own errors get the file's name first, without their number."""
    if not isinstance(error, OSError) or error.filename is None:
        return str(error)
    if isinstance(error, FileNotFoundError):
        return f"{error.filename} does not exist"
    return f"{error.filename}: {error.strerror}"
