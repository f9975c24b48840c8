"""Skeletons drawn over frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont

from sefar_serve.pose.joints import EDGES, JOINTS, NUMBER, SHOULDERS
from sefar_serve.pose.poses import Poses

LEFT, RIGHT, MIDDLE = "#ff8c1a", "#22c3ff", "#ffffff"
"""Colours of the person's left side, right side, and what joins them."""
HIDDEN = 0.5
"""Joints less visible than this are drawn hollow, and their bones thin."""
GAP = 4
PAPER = "white"
INTERPOLATED = "#ff3b30"


def draw_skeleton(picture: Image.Image, joints: ArrayLike, visibility: ArrayLike, *, width: float = 2.0) -> None:
    """Draw a person's skeleton onto a picture.

    Args:
        picture: RGB; changed in place.
        joints: (J,2), pixels of the picture, in the order of `JOINTS`.
        visibility: (J,), in [0, 1].
        width: of a bone, pixels.
    """
    points = np.asarray(joints, np.float64)
    seen = np.asarray(visibility, np.float64) >= HIDDEN
    draw = ImageDraw.Draw(picture)
    neck = points[list(SHOULDERS)].mean(axis=0)
    bones = [(points[a], points[b], _colour(a, b), bool(seen[a] and seen[b])) for a, b in EDGES]
    bones.append((neck, points[NUMBER["nose"]], MIDDLE, bool(seen[NUMBER["nose"]])))
    for a, b, colour, clear in bones:
        draw.line((*a.tolist(), *b.tolist()), colour, max(round(width if clear else width / 2), 1))
    for number, (x, y) in enumerate(points.tolist()):
        box = (x - width, y - width, x + width, y + width)
        colour = _colour(number, number)
        draw.ellipse(box, colour if seen[number] else None, colour)


def _colour(a: int, b: int) -> str:
    sides = {JOINTS[number].partition("_")[0] for number in (a, b)}
    return LEFT if sides == {"left"} else RIGHT if sides == {"right"} else MIDDLE


def pose_sheet(
    pixels: Sequence[NDArray[np.uint8]] | NDArray[np.uint8],
    poses: Poses,
    labels: Sequence[str],
    *,
    scale: float,
    columns: int = 4,
) -> Image.Image:
    """Lay the frames of a clip out in rows, with the skeletons over them.

    Args:
        pixels: F frames uint8 (h,w,3), RGB.
        poses: of these frames.
        labels: one for each frame, drawn in its corner.
        scale: from display pixels, in which the joints are, to pixels of these frames.
        columns: frames a row.

    Returns:
        An RGB picture. Frames whose joints are interpolated have a red border.
    """
    height, width = pixels[0].shape[:2]
    rows = -(-len(pixels) // columns)
    columns = min(columns, len(pixels))
    size = (columns * (width + GAP) + GAP, rows * (height + GAP) + GAP)
    sheet = Image.new("RGB", size, PAPER)
    font = ImageFont.load_default(12)
    for frame, label in enumerate(labels):
        tile = Image.fromarray(pixels[frame])
        draw = ImageDraw.Draw(tile)
        for person in range(poses.joints.shape[1]):
            found = bool(poses.detected[frame, person])
            if found:
                visibility = poses.joints[frame, person, :, 3]
                draw_skeleton(tile, poses.image[frame, person] * scale, visibility, width=max(height / 130, 1.5))
        if not poses.detected[frame].any():
            draw.rectangle((0, 0, width - 1, height - 1), None, INTERPOLATED, 3)
        draw.rectangle((0, 0, 7 + draw.textlength(label, font), 16), PAPER)
        draw.text((3, 1), label, "black", font)
        sheet.paste(tile, (GAP + frame % columns * (width + GAP), GAP + frame // columns * (height + GAP)))
    return sheet
