"""Options that several commands share, and the settings and engine that they select."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from sefar_serve.model import place_of
from sefar_serve.optional import needs_extra
from sefar_serve.settings import Settings, read_settings

SECONDS = "SECONDS"

Files = Annotated[list[str], typer.Argument(metavar="FILE", help="video files, or URLs", show_default=False)]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model", "-m", help="ONNX file, or triton://HOST:PORT (default: SEFAR_MODEL, else the shipped model)"
    ),
]
UrlOption = Annotated[
    str | None, typer.Option("--url", help="use the gateway at this URL instead of a model in this process")
]
KeyOption = Annotated[str | None, typer.Option("--api-key", envvar="SEFAR_API_KEY", help="API key for --url")]
JsonOption = Annotated[bool, typer.Option("--json", help="print one JSON object per line")]
StartOption = Annotated[float | None, typer.Option("--start", min=0, metavar=SECONDS, help="start of the clip")]
EndOption = Annotated[float | None, typer.Option("--end", min=0, metavar=SECONDS, help="end of the clip")]
WindowOption = Annotated[
    list[float] | None,
    typer.Option(
        "--window", metavar=SECONDS, help="length of sliding windows, which give a timeline; repeat for several lengths"
    ),
]
StrideOption = Annotated[
    float | None,
    typer.Option("--stride", metavar=SECONDS, help="time between windows; needs --window (default: half a window)"),
]


AnonymousOption = Annotated[
    bool, typer.Option("--anonymous", help="keep nothing of videos but joints; the model must see only joints")
]

PosesOption = Annotated[
    bool, typer.Option("--poses", help="with --json: include the joints in each frame, if the model sees them")
]


def needs_engine(settings: Settings) -> None:
    """Check that the engine's packages are installed.

    Raises:
        ModuleNotFoundError: they are not installed. The message says what to install.
    """
    if settings.triton_url is None:
        with needs_extra("cpu"):
            import onnxruntime  # noqa: F401
    else:
        with needs_extra("triton"):
            import tritonclient.grpc  # noqa: F401


def settings_for(model: str | Path | None, *, anonymous: bool = False) -> Settings:
    """Settings of a command, with the model from its option; its switch `anonymous` can only turn that on."""
    return read_settings(None, **place_of(model) | ({"anonymous": True} if anonymous else {}))


def check_windows(window: Sequence[float] | None, stride: float | None) -> None:
    """Check that a stride comes with a window, before a model is loaded."""
    if stride is not None and not window:
        raise typer.BadParameter("--stride needs --window, the length of the windows")


def check_anonymous(anonymous: bool, url: str | None) -> None:
    """Check that --anonymous is about a model in this process: a gateway has its own setting."""
    if anonymous and url is not None:
        raise typer.BadParameter("--anonymous is about a model in this process; start the gateway with --anonymous")


def check_poses(poses: bool, as_json: bool) -> None:
    """Check that joints are printed as JSON, since a table has no room for them."""
    if poses and not as_json:
        raise typer.BadParameter("--poses needs --json; to draw the joints of a video, use `sefar pose show`")


def png_file(path: Path | None) -> Path | None:
    """Check that a PNG can be written to a path, before the work starts."""
    if path is None:
        return None
    if path.is_dir():
        raise typer.BadParameter(f"{path} is a folder; give a file name, e.g. {path / 'sheet.png'}")
    if path.suffix.lower() != ".png":
        raise typer.BadParameter(f"{path} does not end in .png")
    if blocked := next((parent for parent in path.parents if parent.exists() and not parent.is_dir()), None):
        raise typer.BadParameter(f"{blocked} is a file, so {path} cannot be written")
    return path


def path_prefixes(remap: Sequence[str] | None) -> dict[str, str]:
    """Parse `--remap OLD=NEW` options into prefix replacements."""
    pairs = [pair.partition("=") for pair in remap or ()]
    if not all(old and equals for old, equals, _ in pairs):
        raise typer.BadParameter("--remap takes OLD=NEW, e.g. /root/video/=videos/")
    return {old: new for old, _, new in pairs}
