"""Where a person is: a turned square of a picture, and how to cut it out.

Coordinates are continuous: pixel i covers [i, i + 1), so a picture spans [0, width] × [0, height].
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Points = NDArray[np.float64]
"""float64 (N,2): x, y."""


@dataclass(frozen=True)
class Region:
    """A square of a picture, turned so that a person in it stands upright.

    Attributes:
        x: of the centre, pixels.
        y: of the centre, pixels, downwards.
        size: of a side, pixels.
        angle: radians, clockwise as seen on the screen, by which the person is turned from upright.
    """

    x: float
    y: float
    size: float
    angle: float = 0.0

    @classmethod
    def around(cls, centre: Points, top: Points, margin: float) -> Region:
        """The region of a person, from two points.

        Args:
            centre: (2,), the middle of the hips.
            top: (2,), the point above the head that is as far from the centre as the body reaches.
            margin: factor on the size.
        """
        dx, dy = (top - centre).tolist()
        return cls(float(centre[0]), float(centre[1]), 2 * margin * math.hypot(dx, dy), math.atan2(dx, -dy))

    @property
    def turn(self) -> NDArray[np.float64]:
        """Rotation (2,2) from the directions of the upright crop to those of the picture."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        return np.array([[cos, -sin], [sin, cos]])

    def to_picture(self, points: Points) -> Points:
        """Map points from the crop, where the region spans [0, 1] × [0, 1], to the picture."""
        return (points - 0.5) * self.size @ self.turn.T + (self.x, self.y)

    def to_crop(self, points: Points) -> Points:
        """Map points from the picture to the crop: the inverse of `to_picture`."""
        return (points - (self.x, self.y)) @ self.turn / self.size + 0.5

    def overlap(self, other: Region) -> float:
        """How much two regions agree in place and size: 1 if equal, 0 half a side apart. The angle is ignored."""
        large = max(self.size, other.size)
        distance = math.hypot(self.x - other.x, self.y - other.y) / large
        return min(self.size, other.size) / large * max(0.0, 1 - 2 * distance)


class Picture:
    """A frame from which regions are cut.

    Args:
        pixels: uint8 (h,w,3), RGB.
    """

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self.height, self.width = pixels.shape[:2]
        self._pixels = pixels
        self._halved: dict[int, Image.Image] = {}

    @cached_property
    def whole(self) -> Region:
        """The smallest upright square that holds the picture."""
        return Region(self.width / 2, self.height / 2, max(self.width, self.height))

    def crop(self, region: Region, side: int) -> NDArray[np.uint8]:
        """Cut a region out, turned upright.

        Args:
            region: black where it lies outside the picture.
            side: of the crop in pixels.

        Returns:
            uint8 (side,side,3), bilinear; pixels are averaged before it is scaled down.
        """
        scale = max(region.size, 1e-3) / side
        halvings = max(math.floor(math.log2(scale)), 0) if scale >= 2 else 0
        image, factor = self._smaller(halvings), 1 / 2**halvings
        (a, b), (d, e) = (region.turn * scale * factor).tolist()
        # Pillow maps the centres of the crop's pixels, which lie at whole numbers and a half.
        c = region.x * factor - (a + b) * side / 2
        f = region.y * factor - (d + e) * side / 2
        bilinear = Image.Resampling.BILINEAR
        return np.asarray(image.transform((side, side), Image.Transform.AFFINE, (a, b, c, d, e, f), bilinear))

    def _smaller(self, halvings: int) -> Image.Image:
        """The picture, halved so many times by averaging."""
        if halvings not in self._halved:
            image = Image.fromarray(self._pixels)
            self._halved[halvings] = image.reduce(2**halvings) if halvings else image
        return self._halved[halvings]
