"""Frames with persons that `FakeEstimator` sees: coloured blocks on grey."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import av
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


def video(frames: np.ndarray, rate: int = 16) -> bytes:
    """An H.264 MP4 of these frames."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "10"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()


def entering_person() -> bytes:
    """32 frames in 2 s: nobody in the first, a person in the next."""
    return video(scene(Person([None] * 16 + walk((100, 120), (7, 0))), count=32))


def walking_person() -> bytes:
    """32 frames in 2 s; the person is at x = 40 + 7 i."""
    return video(scene(Person(walk((40, 120), (7, 0), count=32)), count=32))
