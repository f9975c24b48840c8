"""What a user says about a collection of videos: the same for `sefar init` and `sefar train --data`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sefar_serve.optional import needs_extra
from sefar_serve.segments import BACKGROUND

if TYPE_CHECKING:
    from sefar_training.start import Prepared

FormatName = Literal["folders", "table", "list", "activitynet", "label-studio", "via", "cvat", "fiftyone"]

YOUR_VIDEOS = "Your videos"
"""Heading of these options in the help."""

RootOption = Annotated[
    Path | None,
    typer.Option(
        "--root", help="folder of the videos (default: DIR, or that of the table)", rich_help_panel=YOUR_VIDEOS
    ),
]
FormatOption = Annotated[
    FormatName | None, typer.Option("--format", help="format (default: found out)", rich_help_panel=YOUR_VIDEOS)
]
GroupOption = Annotated[
    str,
    typer.Option(
        "--group",
        metavar="RULE",
        help="which clips belong together: auto (column or folders, else file names, else similarity), looks, "
        "files, none, or a regular expression for paths",
        rich_help_panel=YOUR_VIDEOS,
    ),
]
LabelsOption = Annotated[
    int | None,
    typer.Option(
        "--labels-per-class",
        min=1,
        metavar="N",
        help="use N labels of each class; hide the others",
        rich_help_panel=YOUR_VIDEOS,
    ),
]
BackgroundOption = Annotated[
    bool,
    typer.Option(
        "--background",
        help=f"learn the class {BACKGROUND} from the time that no span covers; for videos in which every action is "
        "labelled",
        rich_help_panel=YOUR_VIDEOS,
    ),
]


@dataclass(frozen=True)
class Videos:
    """What a user says about a collection; see `sefar_training.start.prepare`."""

    root: Path | None = None
    format: FormatName | None = None
    group: str = "auto"
    labels_per_class: int | None = None
    background: bool = False
    seed: int = 0

    def prepare(self, place: Path, folder: Path, workers: int | None = None) -> Prepared:
        """Look at the videos, group and split them.

        Args:
            place: folder of videos, or a table or annotations of them.
            folder: of the run.
            workers: threads; None for one per core.
        """
        with needs_extra("train"):
            from sefar_training.start import cache_folder, prepare
        base = (self.root or (place if place.is_dir() else place.parent)).absolute()
        return prepare(
            place,
            root=self.root,
            format=self.format,
            group=self.group,
            labels_per_class=self.labels_per_class,
            background=self.background,
            seed=self.seed,
            cache=cache_folder(base, folder.absolute()),
            threads=workers,
        )


def run_folder(place: Path, out: Path | None) -> Path:
    """The folder of a run: the one that was given, or ``runs/NAME``."""
    return out or Path("runs") / (place.absolute().name if place.is_dir() else place.stem)
