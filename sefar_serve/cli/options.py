"""Options that several commands share, and what they come to."""

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


def needs_engine(settings: Settings) -> None:
    """Say what to install before the engine's own import fails.

    Raises:
        ModuleNotFoundError: the engine's packages are not installed.
    """
    if settings.triton_url is None:
        with needs_extra("cpu"):
            import onnxruntime  # noqa: F401
    else:
        with needs_extra("triton"):
            import tritonclient.grpc  # noqa: F401


def settings_for(model: Path | None) -> Settings:
    """The settings of a command, with the model that its option names."""
    return Settings() if model is None else Settings(model=model)


def path_prefixes(remap: Sequence[str] | None) -> dict[str, str]:
    """What `--remap OLD=NEW` says, once for each prefix."""
    pairs = [pair.partition("=") for pair in remap or ()]
    if not all(old and equals for old, equals, _ in pairs):
        raise typer.BadParameter("--remap takes OLD=NEW, e.g. /root/video/=videos/")
    return {old: new for old, _, new in pairs}
