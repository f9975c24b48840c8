"""What a pose estimator is: it finds persons in a picture, and the joints of one person in a region.

The tracker needs nothing else, so another detector or landmark model stands in by these two methods.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sefar_serve.pose.region import Picture, Points, Region


@dataclass(frozen=True)
class Detection:
    """A person that the detector found.

    Attributes:
        score: in [0, 1].
        region: for the landmark model.
        hips: float64 (2,), the middle of the hips, pixels of the picture.
        shoulders: float64 (2,), the middle of the shoulders, pixels of the picture.
    """

    score: float
    region: Region
    hips: Points
    shoulders: Points


@dataclass(frozen=True)
class Landmarks:
    """The joints of the person in a region, in the order of `JOINTS`.

    Attributes:
        presence: in [0, 1], how sure the model is that a person is there.
        image: float64 (J,2), pixels of the picture.
        world: float64 (J,3), metres, the middle of the hips at 0: x to the right of the picture, y down, z away from
            the camera.
        visibility: float64 (J,) in [0, 1].
        region: of the same person, from the joints: where to look in the next frame.
    """

    presence: float
    image: NDArray[np.float64]
    world: NDArray[np.float64]
    visibility: NDArray[np.float64]
    region: Region


class Estimator(Protocol):
    """Finds persons and their joints. Thread-safe.

    Attributes:
        name: goes into a model's metadata.
        sha256: of the weights; poses from other weights are not the same.
    """

    name: str
    sha256: str

    def detect(self, picture: Picture, within: Region) -> Sequence[Detection]:
        """Find persons in a part of a picture.

        Args:
            picture: an upright frame.
            within: where to look, e.g. ``picture.whole``; a smaller one finds smaller persons.

        Returns:
            One detection a person, the surest first.
        """
        ...

    def landmarks(self, picture: Picture, region: Region) -> Landmarks:
        """Find the joints of the person in a region."""
        ...
