"""Draws the frames that the model saw, one row per temporal element, along the clip's timeline."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from sefar_serve.clip import Video, VideoSource
from sefar_serve.schemas.video import SourceFrame

THUMB = 112
"""Short side of a thumbnail in pixels."""
GAP = 6
MARGIN = 16
LABELS = 96
"""Width of the column that names the elements."""
TITLE, AXIS, FOOT = 30, 46, 18
PAPER, INK, FAINT = "white", "#1b1b1f", "#9a9aa5"
CONTEXT_COLOUR = "#2563c9"
FINE_COLOURS = ("#d9580d", "#1d8a4a", "#8a3fc7", "#b8860b", "#c2185b")


@dataclass(frozen=True)
class SheetClip:
    """One clip of a sheet.

    Attributes:
        source: the video.
        title: line of text above its frames.
        frames: frames that the model saw, from `clip.frames` of an answer.
        duration: duration of the whole video in seconds.
    """

    source: VideoSource
    title: str
    frames: Sequence[SourceFrame]
    duration: float


def contact_sheet(clips: Sequence[SheetClip], out: str | os.PathLike[str]) -> Path:
    """Draw the clips one below the other and save them as a PNG.

    Args:
        clips: clips to draw, at least one.
        out: PNG file, written atomically.

    Raises:
        sefar_serve.clip.ClipError: a video cannot be read.
        ValueError: there are no clips.
    """
    if not clips:
        raise ValueError("a contact sheet needs at least one clip")
    panels = [_panel(clip) for clip in clips]
    sheet = Image.new("RGB", (max(p.width for p in panels), sum(p.height for p in panels)), PAPER)
    top = 0
    for panel in panels:
        sheet.paste(panel, (0, top))
        top += panel.height
    path = Path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    sheet.save(partial, format="PNG")
    partial.replace(path)
    return path


def _colour(element: str) -> str:
    if element == "context":
        return CONTEXT_COLOUR
    return FINE_COLOURS[(int(element.removeprefix("fine_")) - 1) % len(FINE_COLOURS)]


def _panel(clip: SheetClip) -> Image.Image:
    """Draw one clip: a title, one row of thumbnails per element in columns by time, and the timeline below."""
    with Video(clip.source) as video:
        pixels = video.read([frame.index for frame in clip.frames], short_side=THUMB).pixels
    height, width = pixels.shape[1:3]
    elements = list(dict.fromkeys(frame.element for frame in clip.frames))
    columns = sorted(range(len(clip.frames)), key=lambda i: (clip.frames[i].time, i))
    axis_left, axis_width = MARGIN + LABELS, len(columns) * (width + GAP) - GAP
    rows_bottom = TITLE + len(elements) * (height + GAP)
    panel = Image.new("RGB", (axis_left + axis_width + MARGIN, rows_bottom + AXIS + FOOT), PAPER)
    draw = ImageDraw.Draw(panel)
    title, small = ImageFont.load_default(16), ImageFont.load_default(12)
    draw.text((MARGIN, 6), clip.title, INK, title)

    for row, element in enumerate(elements):
        draw.text(
            (MARGIN, TITLE + row * (height + GAP) + height // 2 - 8),
            element.replace("_", " "),
            _colour(element),
            title,
        )
    axis = rows_bottom + AXIS - 12
    draw.line((axis_left, axis, axis_left + axis_width, axis), FAINT, 2)
    for column, i in enumerate(columns):
        frame = clip.frames[i]
        colour = _colour(frame.element)
        left = axis_left + column * (width + GAP)
        top = TITLE + elements.index(frame.element) * (height + GAP)
        centre = left + width // 2
        moment = axis_left + round(axis_width * min(frame.time / max(clip.duration, 1e-9), 1.0))
        draw.line((centre, top + height, centre, rows_bottom), colour, 1)
        draw.line((centre, rows_bottom, moment, axis), colour, 1)
        draw.ellipse((moment - 4, axis - 4, moment + 4, axis + 4), colour)
        panel.paste(Image.fromarray(pixels[i]), (left, top))
        draw.rectangle((left, top, left + width - 1, top + height - 1), None, colour, 3)
        label = f"{frame.index} · {frame.time:.2f} s"
        draw.rectangle((left + 3, top + 3, left + 9 + draw.textlength(label, small), top + 19), PAPER)
        draw.text((left + 6, top + 4), label, INK, small)
    draw.text((axis_left, axis + 8), "0 s", FAINT, small)
    end = f"{clip.duration:.2f} s"
    draw.text((axis_left + axis_width - draw.textlength(end, small), axis + 8), end, FAINT, small)
    return panel
