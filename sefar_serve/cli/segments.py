"""The segments of `sefar classify --window`: their options, and files in the formats of other programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sefar_client.segment_formats import ONE_VIDEO, SUFFIXES, SegmentFormat, format_segments
from sefar_serve.cli import console
from sefar_serve.cli.options import SECONDS
from sefar_serve.schemas.problem import ItemError
from sefar_serve.schemas.video import Classification
from sefar_serve.segments import BACKGROUND, MIN_LENGTH, SMOOTHING


class Format(StrEnum):
    """What `sefar classify` prints."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    VTT = "vtt"
    LABEL_STUDIO = "label-studio"
    ELAN = "elan"


OF_SEGMENTS: dict[Format, SegmentFormat] = {
    Format.CSV: "csv",
    Format.VTT: "vtt",
    Format.LABEL_STUDIO: "label-studio",
    Format.ELAN: "elan",
}
"""The formats that hold only segments."""

FormatOption = Annotated[
    Format | None,
    typer.Option(
        "--format",
        "-f",
        help="what to print (default: table); csv, vtt, label-studio and elan have the segments and need --window",
    ),
]
OutOption = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        help="with one of these formats: write this file; for several videos as vtt or elan, a file for each into "
        "this folder",
    ),
]
SmoothingOption = Annotated[
    float | None,
    typer.Option("--smoothing", min=0, help=f"more gives fewer, longer segments; 0 for none (default: {SMOOTHING:g})"),
]
MinSegmentOption = Annotated[
    float | None,
    typer.Option(
        "--min-segment",
        min=0,
        metavar=SECONDS,
        help=f"length of the shortest segment (default: {MIN_LENGTH:g} of a window)",
    ),
]
BackgroundOption = Annotated[
    str | None,
    typer.Option(
        "--background", help=f"label to leave out of the segments (default: {BACKGROUND}, if the model has it)"
    ),
]


def chosen_format(given: Format | None, as_json: bool) -> Format:
    """The format to print; `--json` is short for `--format json`."""
    if as_json and given not in (None, Format.JSON):
        raise typer.BadParameter(f"--json is --format json; leave it out for --format {given}")
    return Format.JSON if as_json else given or Format.TABLE


def check_segments(
    files: Sequence[str], form: Format, out: Path | None, windows: Sequence[float] | None, options: Mapping[str, object]
) -> None:
    """Check the format and the options of segments, before a model is loaded.

    Args:
        files: the videos.
        form: the format.
        out: file or folder to write; None for the terminal.
        windows: lengths of the windows; empty or None without them.
        options: of segments, by the name of the flag; None if not given.
    """
    given = [flag for flag, value in options.items() if value is not None]
    if not windows and (form in OF_SEGMENTS or given):
        needs = f"--format {form}" if form in OF_SEGMENTS else given[0]
        raise typer.BadParameter(f"{needs} needs --window, the length of the windows that become segments")
    if form not in OF_SEGMENTS:
        if out is not None and form is Format.TABLE:
            raise typer.BadParameter(f"--out needs --format json, {', '.join(OF_SEGMENTS)}")
        return
    if not _file_each(files, form):
        if out is not None and out.is_dir():
            raise typer.BadParameter(f"{out} is a folder; give a file name, e.g. {out / _name('segments', form)}")
        return
    if out is None:
        raise typer.BadParameter(f"--format {form} writes one file for each video; give a folder with --out")
    if out.exists() and not out.is_dir():
        raise typer.BadParameter(f"{out} is a file; give a folder for the files of {len(files)} videos")
    names = [_name(file, form) for file in files]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise typer.BadParameter(f"two videos would be written to {out / twice}; rename one, or write them separately")


def save_segments(
    files: Sequence[str], items: Sequence[Classification | ItemError], form: Format, out: Path | None
) -> None:
    """Print or write the segments of the videos that were classified. Failures are printed to stderr.

    Args:
        files: the videos.
        items: their answers.
        form: one of `OF_SEGMENTS`.
        out: file or folder; None for the terminal.

    Raises:
        OSError: a file cannot be written.
    """
    kind = OF_SEGMENTS[form]
    found = {file: item for file, item in zip(files, items, strict=True) if isinstance(item, Classification)}
    if out is not None and _file_each(files, form):
        for file, item in found.items():
            console.write_text(out / _name(file, form), format_segments(item, kind))
    elif found:
        text = format_segments(list(found.values()), kind)
        if out is None:
            typer.echo(text, nl=False)
        else:
            console.write_text(out, text)
    console.print_notes(items)


def _file_each(files: Sequence[str], form: Format) -> bool:
    return OF_SEGMENTS[form] in ONE_VIDEO and len(files) > 1


def _name(file: str, form: Format) -> str:
    """Name of the file for a video: a path, or a URL."""
    return (Path(file.partition("?")[0]).stem or "video") + SUFFIXES[OF_SEGMENTS[form]]
