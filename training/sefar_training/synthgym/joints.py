"""The true joints of rendered clips, as a pose estimator would give them if it made no mistakes."""

from __future__ import annotations

import hashlib
import json

import numpy as np
from numpy.typing import NDArray

from sefar_serve.pose.estimators import TRUE
from sefar_serve.pose.joints import JOINTS, MIRROR, NUMBER
from sefar_training.synthgym.nuisance import Look
from sefar_training.synthgym.skeleton import Joints, turned_to_camera

METRES = 1.7
"""Body height; lengths of the skeleton are in body heights."""

NOSE = 0.065
"""From the middle of the head to the front, in body heights: where the face is drawn."""

INDEX = 0.05
"""From the wrist along the forearm to the base of the index finger, in body heights."""

ESTIMATOR = f"{TRUE}synthgym"

DESCRIPTION = {"drawn": "synthgym", "version": 1, "joints": JOINTS, "metres": METRES, "nose": NOSE, "index": INDEX}
SHA256 = hashlib.sha256(json.dumps(DESCRIPTION, sort_keys=True).encode()).hexdigest()
"""Identifies how joints are made, as the SHA-256 of its weights identifies an estimator."""


def true_joints(body: Joints, look: Look) -> NDArray[np.float32]:
    """The joints of `sefar_serve.pose.JOINTS` as the camera of a clip sees them.

    Args:
        body: over T frames.
        look: camera, and whether the clip is mirrored. A mirrored person's left is what was the right.

    Returns:
        float32 (T,1,J,4), as in `sefar_serve.pose.Poses.joints`: metres, the middle of the hips at 0, x to the right of
        the picture, y down, z away from the camera; everything is visible.
    """
    forearm = body.hands - body.elbows
    pairs = {
        "shoulder": body.shoulders,
        "elbow": body.elbows,
        "wrist": body.hands,
        "index": body.hands + INDEX * forearm / np.linalg.norm(forearm, axis=-1, keepdims=True),
        "hip": body.hips,
        "knee": body.knees,
        "ankle": body.ankles,
    }
    space = np.empty((len(body.head), len(JOINTS), 3))
    space[:, NUMBER["nose"]] = body.head + NOSE * body.front
    for name, points in pairs.items():
        for side, own in enumerate(("left", "right")):
            space[:, NUMBER[f"{own}_{name}"]] = points[:, side]
    seen = turned_to_camera(space - body.hips.mean(axis=1)[:, None], look.azimuth, look.elevation)
    joints = np.ones((len(space), 1, len(JOINTS), 4), np.float32)
    joints[:, 0, :, :3] = METRES * seen * np.array([1.0, -1.0, 1.0])
    if look.mirror:
        joints = joints[:, :, list(MIRROR)] * np.array([-1, 1, 1, 1], np.float32)
    return joints
