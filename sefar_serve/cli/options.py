"""Options that several commands share, and the settings and engine that they select."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from sefar_serve.optional import needs_extra
from sefar_serve.settings import Settings

Files = Annotated[list[Path], typer.Argument(metavar="FILE", help="video files", show_default=False)]
ModelOption = Annotated[
    Path | None, typer.Option("--model", "-m", help="ONNX file (default: SEFAR_MODEL, else the shipped model)")
]
UrlOption = Annotated[
    str | None, typer.Option("--url", help="use the gateway at this URL instead of a model in this process")
]
KeyOption = Annotated[str | None, typer.Option("--api-key", envvar="SEFAR_API_KEY", help="API key for --url")]
JsonOption = Annotated[bool, typer.Option("--json", help="print one JSON object per line")]
StartOption = Annotated[float | None, typer.Option("--start", min=0, help="start of the clip in seconds")]
EndOption = Annotated[float | None, typer.Option("--end", min=0, help="end of the clip in seconds")]
WindowOption = Annotated[
    float | None, typer.Option("--window", help="length in seconds of sliding windows, which give a timeline")
]
StrideOption = Annotated[
    float | None, typer.Option("--stride", help="seconds between windows (default: half a window)")
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


def settings_for(model: Path | None) -> Settings:
    """Settings of a command, with the model from its option."""
    return Settings() if model is None else Settings(model=model)


def path_prefixes(remap: Sequence[str] | None) -> dict[str, str]:
    """Parse `--remap OLD=NEW` options into prefix replacements."""
    pairs = [pair.partition("=") for pair in remap or ()]
    if not all(old and equals for old, equals, _ in pairs):
        raise typer.BadParameter("--remap takes OLD=NEW, e.g. /root/video/=videos/")
    return {old: new for old, _, new in pairs}
