"""Contact sheets: for each class an image with frames of a few clips, for inspection."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from sefar_serve.atomic import atomic_file
from sefar_serve.clip import Video
from sefar_training.synthgym.classes import CLASSES, ActionClass

CELL, GAP, TITLE = 72, 2, 26


def write_contact_sheets(root: str | os.PathLike[str], split: str = "train", clips: int = 5, columns: int = 12) -> Path:
    """Draw a sheet for each class, and an overview of all classes, into ``sheets/``.

    Args:
        root: the data set's folder.
        split: split of the clips to show.
        clips: largest number of clips per class.
        columns: frames per clip, at equal intervals.

    Returns:
        The overview's path.
    """
    root = Path(root)
    folder = root / "sheets"
    folder.mkdir(exist_ok=True)
    first_rows = []
    for action in CLASSES:
        videos = sorted((root / "videos" / split).glob(f"{action.index:02d}_*.mp4"))[:clips]
        rows = [_row(video, columns) for video in videos]
        _save(_titled(action.name, rows), folder / f"{action.index:02d}.png")
        first_rows.append((action, rows[0]))
    overview = folder / "overview.png"
    _save(_overview(first_rows), overview)
    return overview


def _row(path: Path, columns: int) -> NDArray[np.uint8]:
    with Video(path) as video:
        wanted = (2 * np.arange(columns) + 1) * video.frame_count // (2 * columns)
        pixels = video.read(wanted, short_side=CELL).pixels
    cells = []
    for frame in pixels:
        top, left = (frame.shape[0] - CELL) // 2, (frame.shape[1] - CELL) // 2
        cells += [frame[top : top + CELL, left : left + CELL], np.full((CELL, GAP, 3), 255, np.uint8)]
    return np.concatenate(cells, axis=1)


def _titled(title: str, rows: list[NDArray[np.uint8]]) -> Image.Image:
    image = Image.new("RGB", (rows[0].shape[1], TITLE + len(rows) * (CELL + GAP)), "white")
    ImageDraw.Draw(image).text((4, 4), title, "black", ImageFont.load_default(15))
    for number, row in enumerate(rows):
        image.paste(Image.fromarray(row), (0, TITLE + number * (CELL + GAP)))
    return image


def _overview(rows: list[tuple[ActionClass, NDArray[np.uint8]]]) -> Image.Image:
    """Two columns of classes, with one clip each."""
    panels = [_titled(f"{action.index} {action.name}", [row]) for action, row in rows]
    width, height = panels[0].size
    half = (len(panels) + 1) // 2
    image = Image.new("RGB", (2 * width + 12, half * height), "white")
    for number, panel in enumerate(panels):
        image.paste(panel, ((number // half) * (width + 12), (number % half) * height))
    return image


def _save(image: Image.Image, path: Path) -> None:
    with atomic_file(path) as new:
        image.save(new, format="PNG", optimize=True)
