"""Frames with persons that `FakeEstimator` sees: coloured blocks on grey."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

WIDTH, HEIGHT = 320, 240
COLOURS = {"red": (220, 30, 30), "green": (30, 220, 30), "blue": (30, 30, 220), "dark red": (90, 10, 10)}
TIMES = np.arange(16) / 8.0


@dataclass(frozen=True)
class Person:
    """A block: its middle in each frame (None: not there), colour and height."""

    places: Sequence[tuple[float, float] | None]
    colour: str = "red"
    height: float = 100


def scene(*persons: Person, count: int = 16, size: tuple[int, int] = (WIDTH, HEIGHT)) -> np.ndarray:
    """Frames uint8 (count,h,w,3); later persons stand in front."""
    frames = np.full((count, size[1], size[0], 3), 128, np.uint8)
    for person in persons:
        half = np.array([person.height / 4, person.height / 2])
        for frame, place in zip(frames, person.places, strict=True):
            if place is not None:
                (left, top), (right, bottom) = (
                    np.maximum(place + sign * half, 0).round().astype(int) for sign in (-1, 1)
                )
                frame[top:bottom, left:right] = COLOURS[person.colour]
    return frames


def walk(start: tuple[float, float], step: tuple[float, float] = (0, 0), count: int = 16) -> list[tuple[float, float]]:
    """Places on a line."""
    return [(start[0] + i * step[0], start[1] + i * step[1]) for i in range(count)]
