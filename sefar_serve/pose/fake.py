"""An estimator without a model, for tests of everything around one.

Its persons are blocks of one strong colour (red, green, blue, yellow, magenta or cyan), upright, on a grey ground:
the joints follow from the block's edges, so a test can predict them. A dark block is a body that the model imagines:
present, but hardly visible.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from sefar_serve.pose.estimator import Detection, Landmarks
from sefar_serve.pose.joints import HIPS
from sefar_serve.pose.region import Picture, Points, Region

SIDE = 128
STRONG = 50
"""A pixel belongs to a person if its colours differ by so much."""
DARK = 110
"""A block of which no colour is brighter is imagined."""
LEAST_PIXELS = 12
METRES = 1.7
"""Height of every person."""

# Joints as shares of the block's width and height, in the order of JOINTS. The person faces the camera, so the person's
# left is on the right of the picture.
_PLACES: NDArray[np.float64] = np.array(
    [
        (0.5, 0.0),
        (0.8, 0.2),
        (0.2, 0.2),
        (0.9, 0.35),
        (0.1, 0.35),
        (1.0, 0.5),
        (0.0, 0.5),
        (1.0, 0.55),
        (0.0, 0.55),
        (0.7, 0.5),
        (0.3, 0.5),
        (0.7, 0.75),
        (0.3, 0.75),
        (0.7, 1.0),
        (0.3, 1.0),
    ]
)


class FakeEstimator:
    """Finds coloured blocks. See `sefar_serve.pose.estimator.Estimator`.

    Attributes:
        detections: how often `detect` was called.
        looks: how often `landmarks` was called.
    """

    name = "fake"
    sha256 = "0" * 64

    def __init__(self) -> None:
        self.detections = 0
        self.looks = 0

    def detect(self, picture: Picture, within: Region) -> list[Detection]:
        """Every block in a part of the picture, the largest first."""
        self.detections += 1
        found = []
        for corners, _ in self._blocks(picture, within):
            middle, (width, height) = corners.mean(axis=0), corners[1] - corners[0]
            shoulders = middle - (0, 0.3 * height)
            region = Region(float(middle[0]), float(middle[1]), 1.25 * float(height))
            found.append((width * height, Detection(0.9, region, middle, shoulders)))
        return [detection for _, detection in sorted(found, key=lambda entry: -entry[0])]

    def landmarks(self, picture: Picture, region: Region) -> Landmarks:
        """The joints of the block nearest to the region's middle."""
        self.looks += 1
        blocks = list(self._blocks(picture, region))
        if not blocks:
            nothing = np.zeros((len(_PLACES), 2))
            return Landmarks(0.02, nothing, np.zeros((len(_PLACES), 3)), nothing[:, 0], region)
        centre = np.array([region.x, region.y])
        corners, dark = min(blocks, key=lambda block: float(np.linalg.norm(block[0].mean(axis=0) - centre)))
        size = corners[1] - corners[0]
        image = corners[0] + _PLACES * size
        metres = np.zeros((len(image), 3))
        metres[:, :2] = (image - image[list(HIPS)].mean(axis=0)) * METRES / size[1]
        middle = corners.mean(axis=0)
        again = Region(float(middle[0]), float(middle[1]), 1.25 * float(size[1]))
        return Landmarks(0.7 if dark else 0.99, image, metres, np.full(len(image), 0.05 if dark else 0.98), again)

    def _blocks(self, picture: Picture, region: Region) -> Iterator[tuple[Points, bool]]:
        """Corners (2,2) of each block in pixels of the picture, and whether it is dark."""
        pixels = picture.crop(region, SIDE).astype(np.int64)
        brightest = pixels.max(axis=-1, keepdims=True)
        kinds = (pixels > brightest / 2) @ np.array([4, 2, 1])
        # Where a block's edge blends into the ground, all three colours are nearly as bright.
        strong = (np.ptp(pixels, axis=-1) > STRONG) & (kinds != 7)
        for kind in np.unique(kinds[strong]).tolist():
            rows, columns = np.nonzero(strong & (kinds == kind))
            if len(rows) < LEAST_PIXELS:
                continue
            corners = np.array([(columns.min(), rows.min()), (columns.max() + 1, rows.max() + 1)]) / SIDE
            yield region.to_picture(corners), bool(brightest[rows, columns].mean() < DARK)
