"""The commands `sefar pose …`: get the pose models, and look at the joints of a clip."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from sefar_serve.atomic import atomic_file
from sefar_serve.cli import console
from sefar_serve.cli.options import EndOption, StartOption, png_file
from sefar_serve.clip import Sampling, Video
from sefar_serve.download_bar import download_bar
from sefar_serve.pose import load_poses, pose_sheet
from sefar_serve.pose.estimators import make_estimator
from sefar_serve.pose.load import MAX_PERSONS
from sefar_serve.pose.models import ensure_models

app = typer.Typer(no_args_is_help=True, help="Find the joints of persons in videos.")

THUMB = 240
"""Short side of a frame on a sheet, pixels."""

Home = Annotated[
    Path | None, typer.Option("--home", help="folder of the models (default: SEFAR_POSE_HOME, else in ~/.cache)")
]


@app.command()
def setup(
    home: Home = None,
    wheel: Annotated[
        Path | None, typer.Option("--wheel", help="take the models from this wheel of MediaPipe; nothing is downloaded")
    ] = None,
) -> None:
    """Download the pose models (36 MB, of which 9 MB are kept)."""
    with download_bar("pose models", console.err) as progress:
        folder = ensure_models(home, progress, wheel)
    typer.echo(f"pose models: {folder}")


@app.command()
def show(
    clip: Annotated[str, typer.Argument(metavar="CLIP", help="video file")],
    out: Annotated[Path, typer.Option("--out", "-o", callback=png_file, help="PNG to write")],
    persons: Annotated[int, typer.Option("--persons", min=1, max=MAX_PERSONS, help="persons to follow")] = 1,
    frames: Annotated[int, typer.Option("--frames", min=1, max=64, help="frames to look at")] = 16,
    start: StartOption = None,
    end: EndOption = None,
    home: Home = None,
) -> None:
    """Draw the skeletons over the frames of a clip. Left is orange, right is blue; a red frame has nobody."""
    estimator = make_estimator(home)
    found = load_poses(clip, estimator, Sampling((frames,)), persons=persons, start=start, end=end)
    with Video(clip) as video:
        pixels = video.read(found.indices, THUMB).pixels
    labels = [
        f"{index} · {time:.2f} s · {' '.join(f'{p:.2f}' for p in presence)}"
        for index, time, presence in zip(found.indices, found.times, found.poses.presence, strict=True)
    ]
    sheet = pose_sheet(pixels, found.poses, labels, scale=pixels.shape[2] / found.width)
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(out) as new:
        sheet.save(new, format="PNG")
    for warning in (*found.video_warnings, *found.warnings):
        console.err.print(f"[yellow]{escape(clip)}:[/] {escape(warning)}", highlight=False, soft_wrap=True)
    typer.echo(str(out))
