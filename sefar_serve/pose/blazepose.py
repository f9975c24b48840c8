"""BlazePose: how the raw outputs of MediaPipe's two pose models are read.

Sizes, strides and thresholds are those of MediaPipe's graphs `pose_detection_cpu` and `pose_landmark_cpu`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sefar_serve.pose.estimator import Detection, Landmarks
from sefar_serve.pose.joints import HIPS
from sefar_serve.pose.region import Region

DETECTOR_SIDE = 224
LANDMARK_SIDE = 256
MARGIN = 1.25
"""Of a region round the circle that the detector, or landmarks 33 and 34, draw round a person."""

GRIDS = ((28, 2), (14, 2), (7, 6))
"""Cells a side, and anchors a cell, of the detector's output."""
MIN_SCORE = 0.35
SAME_PERSON = 0.8
"""Detections whose regions overlap more than this are one person's. Lower, and neighbours would be merged into one."""

LANDMARKS = (0, 11, 12, 13, 14, 15, 16, 19, 20, 23, 24, 25, 26, 27, 28)
"""Numbers of our joints among the model's 33 landmarks."""
CENTRE, TOP = 33, 34
"""Two more points of the model: the middle of the hips, and the top of the circle round the person."""
POINTS = 39

Floats = NDArray[np.float32]


def _anchors() -> NDArray[np.float64]:
    """Centres of the detector's anchors, (2254,2), the picture spanning [0, 1] × [0, 1]."""
    layers = []
    for cells, count in GRIDS:
        middles = (np.arange(cells) + 0.5) / cells
        y, x = np.meshgrid(middles, middles, indexing="ij")
        layers.append(np.repeat(np.stack([x, y], -1).reshape(-1, 2), count, axis=0))
    return np.concatenate(layers)


ANCHORS = _anchors()


def sigmoid(logits: Floats) -> NDArray[np.float64]:
    """Probabilities from logits of any size."""
    return 1 / (1 + np.exp(-np.clip(logits.astype(np.float64), -50, 50)))


def read_detections(boxes: Floats, logits: Floats, within: Region) -> list[Detection]:
    """Turn the detector's output into persons.

    Args:
        boxes: float32 (2254,12): box and four key points (hips, top of the circle round the body, shoulders, top of
            the circle round the upper body), pixels of the crop relative to the anchors.
        logits: float32 (2254,1).
        within: the region that was looked at.

    Returns:
        One detection a person, the surest first; key points are means over the person's anchors, weighted by score.
    """
    scores = sigmoid(logits[:, 0])
    chosen = np.flatnonzero(scores > MIN_SCORE)
    chosen = chosen[np.argsort(-scores[chosen])]
    points = boxes[chosen, 4:].reshape(-1, 4, 2) / DETECTOR_SIDE + ANCHORS[chosen, None]
    pictured = within.to_picture(points.reshape(-1, 2)).reshape(-1, 4, 2)
    regions = [Region.around(p[0], p[1], MARGIN) for p in pictured]
    left = list(range(len(chosen)))
    found = []
    while left:
        best = left[0]
        same = [i for i in left if i == best or regions[best].overlap(regions[i]) > SAME_PERSON]
        left = [i for i in left if i not in same]
        mean = np.average(pictured[same], axis=0, weights=scores[chosen[same]])
        region = Region.around(mean[0], mean[1], MARGIN)
        found.append(Detection(float(scores[chosen[best]]), region, mean[0], mean[2]))
    return found


def read_landmarks(points: Floats, presence: Floats, world: Floats, region: Region) -> Landmarks:
    """Turn the landmark model's output into joints.

    Args:
        points: float32 (195,): 39 × (x, y, z, visibility, presence), pixels of the crop and logits.
        presence: float32 (1,), a probability.
        world: float32 (117,): 39 × (x, y, z), metres.
        region: the region that was looked at.
    """
    table = points.reshape(POINTS, 5).astype(np.float64)
    pictured = region.to_picture(table[:, :2] / LANDMARK_SIDE)
    metres = world.reshape(POINTS, 3).astype(np.float64)
    metres[:, :2] = metres[:, :2] @ region.turn.T
    joints = metres[list(LANDMARKS)]
    return Landmarks(
        presence=float(presence[0]),
        image=pictured[list(LANDMARKS)],
        world=joints - joints[list(HIPS)].mean(axis=0),
        # A joint counts as seen where the model finds it both inside the picture and not hidden.
        visibility=sigmoid(table[list(LANDMARKS), 3:5].astype(np.float32)).min(axis=1),
        region=Region.around(pictured[CENTRE], pictured[TOP], MARGIN),
    )


def by_size(outputs: Sequence[Floats]) -> dict[int, Floats]:
    """A model's outputs by how many numbers they hold: their order differs between converters."""
    return {output.size: output for output in outputs}
