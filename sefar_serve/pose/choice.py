"""Choosing the person of a clip: who is large, central and moves, and looks alike in all frames that were searched."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sefar_serve.pose.appearance import Colours, likeness
from sefar_serve.pose.estimator import Detection

SMALL, LARGE = 0.12, 4.0
"""Regions of less or more than this times the picture's height are no persons."""
OFF_CENTRE = 0.5
"""What standing at the picture's left or right edge costs, against a score of 1."""
LIVELY = 0.5
"""What being the liveliest person of a frame is worth."""
MOTION = 4.0
"""What moving by one region's side costs, beyond the free speed."""
FREE_SPEED = 0.6
"""Sides of the region a second that a person may move at no cost."""
GROWTH = 0.8
"""What growing or shrinking by a factor of e costs."""
UNLIKE = 4.0
"""What having wholly different colours costs."""
JUMP = 0.5
"""Sides of the region that a person may at most move between frames, beyond the free speed."""


@dataclass(frozen=True)
class Candidate:
    """A detection.

    Attributes:
        detection: as the detector gave it.
        colours: of the person's torso.
        liveliness: how much the picture changes there over time, as a share of where it does most in this frame.
    """

    detection: Detection
    colours: Colours
    liveliness: float = 1.0


def plausible(detection: Detection, height: int) -> bool:
    """Whether a detection has the size of a person, in a picture of this height."""
    return SMALL * height <= detection.region.size <= LARGE * height


def worth(candidate: Candidate, size: tuple[int, int]) -> float:
    """How much a person seems to be the one that the clip shows: sure, large, central, lively.

    Args:
        candidate: the person.
        size: (width, height) of the picture.
    """
    region = candidate.detection.region
    off_centre = abs(region.x - size[0] / 2) / (size[0] / 2)
    merits = candidate.detection.score + min(1.0, region.size / size[1]) + LIVELY * candidate.liveliness
    return merits - OFF_CENTRE * off_centre


def change(a: Candidate, b: Candidate, seconds: float) -> float:
    """What it costs to take two candidates for one person, `seconds` apart; infinite where they cannot be."""
    one, other = a.detection.region, b.detection.region
    distance = math.hypot(one.x - other.x, one.y - other.y) / max(one.size, other.size)
    beyond = max(0.0, distance - FREE_SPEED * seconds)
    if beyond > JUMP:
        return math.inf
    growth = abs(math.log(one.size / other.size))
    return MOTION * beyond + GROWTH * growth + UNLIKE * (1 - likeness(a.colours, b.colours))


def best_path(
    candidates: Mapping[int, Sequence[Candidate]], times: NDArray[np.float64], size: tuple[int, int]
) -> dict[int, Candidate]:
    """The person worth most over all frames, less what the changes cost.

    Args:
        candidates: by frame number.
        times: float64 (F,), seconds.
        size: (width, height) of the picture.

    Returns:
        The person's candidate in each frame that has one.
    """
    frames = sorted(frame for frame, found in candidates.items() if found)
    ends: list[tuple[float, int, Candidate, int | None]] = []  # value so far, frame, candidate, the end before
    for frame in frames:
        earlier = list(enumerate(ends))
        for candidate in candidates[frame]:
            value, before = 0.0, None
            for number, (so_far, past, previous, _) in earlier:
                if past < frame:
                    reached = so_far - change(previous, candidate, float(times[frame] - times[past]))
                    if reached > value:
                        value, before = reached, number
            ends.append((value + worth(candidate, size), frame, candidate, before))
    path: dict[int, Candidate] = {}
    at = max(range(len(ends)), key=lambda number: ends[number][0], default=None)
    while at is not None:
        _, frame, candidate, at = ends[at]
        path[frame] = candidate
    return path
