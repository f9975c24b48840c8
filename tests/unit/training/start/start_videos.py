"""Clips of a place, which is a pattern, and a movement, which is the way of a square."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def film(path: Path, movement: int = 0, place: int = 0, *, frames: int = 12, seed: int = 0) -> Path:
    """Write a 96x64 file, 25 fps."""
    rng = np.random.default_rng((seed, movement, place))
    pattern = np.random.default_rng(1000 + place).integers(0, 255, (4, 6, 3))
    background = np.kron(pattern, np.ones((16, 16, 1))).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(25))
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for i in range(frames):
            picture = background.copy()
            way = (i / frames - 0.5) * 50
            angle = 2 * np.pi * (movement % 8) / 8
            x, y = (int(v) for v in (48 + way * np.cos(angle) + rng.normal(), 32 + way * np.sin(angle) + rng.normal()))
            picture[max(0, y - 5) : y + 5, max(0, x - 5) : x + 5] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path
