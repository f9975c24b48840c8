"""What a person wears: the colours of the torso, by which one is told from another."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from sefar_serve.pose.region import Picture, Points, Region

SIDE = 16
"""Pixels of the square that is looked at."""
LEVELS = 4
"""Steps of each of red, green and blue."""
WIDTH = 0.7
"""Side of the square over the torso's length: narrow enough to leave the background out."""

Colours = NDArray[np.float64]
"""float64 (LEVELS**3,), shares of the colours; they sum to 1."""


def torso_colours(picture: Picture, hips: Points, shoulders: Points) -> Colours:
    """The colours between hips and shoulders.

    Args:
        picture: a frame.
        hips: (2,), the middle of the hips, pixels.
        shoulders: (2,), the middle of the shoulders, pixels.
    """
    middle, along = (hips + shoulders) / 2, shoulders - hips
    angle = math.atan2(along[0], -along[1])
    square = Region(float(middle[0]), float(middle[1]), WIDTH * float(np.hypot(*along)), angle)
    pixels = picture.crop(square, SIDE).reshape(-1, 3).astype(np.float64)
    # Each value is shared between its two nearest steps, so that a slight change of light changes little.
    steps = pixels / 255 * (LEVELS - 1)
    low = np.minimum(steps.astype(np.int64), LEVELS - 2)
    rest = steps - low
    shares = np.zeros((LEVELS,) * 3)
    for corner in np.ndindex(2, 2, 2):
        weights = np.prod(np.where(corner, rest, 1 - rest), axis=1)
        np.add.at(shares, tuple((low + corner).T), weights)
    return shares.ravel() / len(pixels)


def likeness(a: Colours, b: Colours) -> float:
    """How alike two torsos look, in [0, 1] (Bhattacharyya)."""
    return float(np.sqrt(a * b).sum())
