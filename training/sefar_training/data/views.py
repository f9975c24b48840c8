"""The weak view of a training clip: one scale, one square and one mirror for all of its frames."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class WeakView:
    """Random scale of the short side, random square, random mirror.

    Attributes:
        size: side of the square in pixels.
        scale: lowest and highest short side in pixels before cutting, both included.
        flip: probability of mirroring left to right.
    """

    size: int
    scale: tuple[int, int]
    flip: float

    def __call__(self, frames_FHWC: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        """Cut the same square from every frame.

        Args:
            frames_FHWC: whole pictures of one clip, their short side at least about `scale`'s highest
                (a smaller picture is enlarged).
            rng: source of the view's parameters.

        Returns:
            uint8 (F,size,size,3).
        """
        _, height, width, _ = frames_FHWC.shape
        short = int(rng.integers(max(self.scale[0], self.size), max(self.scale[1], self.size) + 1))
        # Cutting first and scaling after is the same view with less to scale.
        side = min(height, width) * self.size / short
        top, left = rng.uniform(0, height - side), rng.uniform(0, width - side)
        mirror = rng.random() < self.flip
        y0, x0, whole = round(top), round(left), max(1, round(side))
        square = frames_FHWC[:, y0 : y0 + whole, x0 : x0 + whole]
        if mirror:
            square = square[:, :, ::-1]
        out = np.empty((len(square), self.size, self.size, 3), np.uint8)
        interpolation = cv2.INTER_AREA if whole >= self.size else cv2.INTER_LINEAR
        for frame, scaled in zip(square, out, strict=True):
            cv2.resize(np.ascontiguousarray(frame), (self.size, self.size), dst=scaled, interpolation=interpolation)
        return out
