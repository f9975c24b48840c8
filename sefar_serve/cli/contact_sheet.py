"""Draws the frames that the model saw, one row per temporal element, along the clip's timeline.

If every element is a single frame, there is nothing to tell apart, and the frames are drawn in order of time.

If the answer has joints, the skeletons are drawn over the frames, or on a blank ground instead of them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sefar_client.warned import warning_lines
from sefar_serve.clip import Video, VideoSource
from sefar_serve.pose import draw_skeleton
from sefar_serve.schemas.pose import PoseInfo
from sefar_serve.schemas.video import ClipInfo

THUMB = 112
"""Short side of a thumbnail in pixels."""
GAP = 6
MARGIN = 16
LABELS = 96
"""Width of the column that names the elements."""
TITLE, LINE, AXIS, FOOT = 30, 18, 46, 18
"""Heights in pixels: of the title, of each warning below it, of the lines to the timeline, and below that."""
ACROSS = 8
"""Frames in a row where rows are not elements."""
PAPER, INK, FAINT = "white", "#1b1b1f", "#9a9aa5"
BLANK, RED = "#3a3a42", "#ff3b30"
BONE = 1.5
"""Width of a bone in pixels."""
CONTEXT_COLOUR = "#2563c9"
FINE_COLOURS = ("#d9580d", "#1d8a4a", "#8a3fc7", "#b8860b", "#c2185b")


@dataclass(frozen=True)
class SheetClip:
    """One clip of a sheet.

    Attributes:
        source: the video.
        title: line of text above its frames.
        clip: `clip` of an answer: the frames that the model saw and, if requested, the joints in them.
    """

    source: VideoSource
    title: str
    clip: ClipInfo


def contact_sheet(clips: Sequence[SheetClip], out: str | os.PathLike[str], *, blank: bool = False) -> Path:
    """Draw the clips one below the other and save them as a PNG.

    Args:
        clips: clips to draw, at least one.
        out: PNG file, written atomically.
        blank: draw skeletons on a blank ground. The videos are not opened.

    Raises:
        sefar_serve.clip.ClipError: a video cannot be read.
        ValueError: there are no clips, or one has no joints to draw on a blank ground.
    """
    if not clips:
        raise ValueError("a contact sheet needs at least one clip")
    panels = [_panel(clip, _tiles(clip, blank)) for clip in clips]
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


def _tiles(clip: SheetClip, blank: bool) -> list[Image.Image]:
    """The thumbnails of a clip's frames, all of one size, with the skeletons."""
    seen = clip.clip
    joints = seen.pose is not None and isinstance(seen.pose.joints, list) and isinstance(seen.pose.image, list)
    if blank:
        if not joints:
            raise ValueError(f"{clip.title}: an anonymous contact sheet needs joints, and the answer has none")
        scale = THUMB / min(seen.width, seen.height)
        size = (round(seen.width * scale), round(seen.height * scale))
        tiles = [Image.new("RGB", size, BLANK) for _ in seen.frames]
    else:
        with Video(clip.source) as video:
            pixels = video.read([frame.index for frame in seen.frames], short_side=THUMB).pixels
        tiles = [Image.fromarray(frame) for frame in pixels]
    if seen.pose is not None and joints:
        _draw_persons(tiles, seen.pose, tiles[0].width / seen.width)
    return tiles


def _draw_persons(tiles: Sequence[Image.Image], pose: PoseInfo, scale: float) -> None:
    """Draw the persons who were found; a frame in which nobody was says so.

    Args:
        tiles: the frames; changed in place.
        pose: the persons in them, with their joints.
        scale: from pixels of the upright picture to those of a tile.
    """
    joints, image = np.asarray(pose.joints, np.float64), np.asarray(pose.image, np.float64) * scale
    for tile, presences, placed, numbers in zip(tiles, pose.presence, image, joints, strict=True):
        for presence, points, person in zip(presences, placed, numbers, strict=True):
            if presence > 0:
                draw_skeleton(tile, points, person[:, 3], width=BONE)
        if not any(presences):
            draw = ImageDraw.Draw(tile)
            draw.text((7, tile.height - 20), "nobody found", RED, ImageFont.load_default(12))


def _panel(clip: SheetClip, tiles: Sequence[Image.Image]) -> Image.Image:
    """Draw one clip: title, warnings, thumbnails, and the timeline below."""
    frames, duration = clip.clip.frames, clip.clip.duration
    width, height = tiles[0].size
    elements = list(dict.fromkeys(frame.element for frame in frames))
    by_time = sorted(range(len(frames)), key=lambda i: (frames[i].time, i))
    by_element = len(elements) < len(frames)
    across = len(frames) if by_element else min(len(frames), ACROSS)
    rows = len(elements) if by_element else -(-len(frames) // across)
    axis_left, axis_width = MARGIN + (LABELS if by_element else 0), across * (width + GAP) - GAP
    warnings = warning_lines(clip.clip)
    rows_top = TITLE + len(warnings) * LINE
    rows_bottom = rows_top + rows * (height + GAP)
    panel = Image.new("RGB", (axis_left + axis_width + MARGIN, rows_bottom + AXIS + FOOT), PAPER)
    draw = ImageDraw.Draw(panel)
    title, small = ImageFont.load_default(16), ImageFont.load_default(12)
    draw.text((MARGIN, 6), clip.title, INK, title)
    for row, line in enumerate(warnings):
        draw.text((MARGIN, TITLE - 2 + row * LINE), line, RED, ImageFont.load_default(14))

    for row, element in enumerate(elements if by_element else ()):
        draw.text(
            (MARGIN, rows_top + row * (height + GAP) + height // 2 - 8),
            element.replace("_", " "),
            _colour(element),
            title,
        )
    axis = rows_bottom + AXIS - 12
    draw.line((axis_left, axis, axis_left + axis_width, axis), FAINT, 2)
    for place, i in enumerate(by_time):
        frame = frames[i]
        colour = _colour(frame.element if by_element else "context")
        row, column = (elements.index(frame.element), place) if by_element else divmod(place, across)
        left, top = axis_left + column * (width + GAP), rows_top + row * (height + GAP)
        moment = axis_left + round(axis_width * min(frame.time / max(duration, 1e-9), 1.0))
        if by_element:
            centre = left + width // 2
            draw.line((centre, top + height, centre, rows_bottom), colour, 1)
            draw.line((centre, rows_bottom, moment, axis), colour, 1)
        draw.ellipse((moment - 4, axis - 4, moment + 4, axis + 4), colour)
        panel.paste(tiles[i], (left, top))
        draw.rectangle((left, top, left + width - 1, top + height - 1), None, colour, 3)
        label = f"{frame.index} · {frame.time:.2f} s"
        draw.rectangle((left + 3, top + 3, left + 9 + draw.textlength(label, small), top + 19), PAPER)
        draw.text((left + 6, top + 4), label, INK, small)
    draw.text((axis_left, axis + 8), "0 s", FAINT, small)
    end = f"{duration:.2f} s"
    draw.text((axis_left + axis_width - draw.textlength(end, small), axis + 8), end, FAINT, small)
    return panel
