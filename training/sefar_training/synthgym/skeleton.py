"""The body: bone lengths, and the positions of its joints for a given motion (forward kinematics).

Body axes: x to the front, y to the left, z from pelvis to head. Lengths are in body heights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sefar_training.synthgym.motion import Motion

Array = NDArray[np.float64]

NECK, HEAD = 0.31, 0.42
SHOULDER, HIP = (0.105, 0.285), (0.055, 0.0)
UPPER_ARM, FOREARM, THIGH, SHIN, FOOT = 0.165, 0.16, 0.245, 0.245, 0.085
CENTRE = np.array([0.0, 0.0, 0.1])
"""The centre of rotation of somersaults."""
BAR_HEIGHT = 1.35


@dataclass(frozen=True)
class Joints:
    """Positions in space, float64 (T, 3); pairs (T, 2, 3) as left, right; body axes as unit vectors (T, 3)."""

    pelvis: Array
    neck: Array
    head: Array
    chest: Array
    shoulders: Array
    elbows: Array
    hands: Array
    hips: Array
    knees: Array
    ankles: Array
    toes: Array
    front: Array
    left: Array
    up: Array


def pose(motion: Motion) -> Joints:
    """Compute the joint positions of a motion. The floor is at z = 0, the bar at z = `BAR_HEIGHT`."""
    body = _in_body_axes(motion)
    turn = _rotation(motion.somersault, motion.twist)
    space = {name: np.einsum("tij,t...j->t...i", turn, points - CENTRE) for name, points in body.items()}
    if motion.on_bar:
        origin = np.array([0.0, 0.0, BAR_HEIGHT]) - space["hands"].mean(axis=1)
    else:
        lowest = np.minimum(space["toes"][..., 2].min(axis=1), space["ankles"][..., 2].min(axis=1))
        standing = CENTRE[2] + THIGH + SHIN
        height = np.where(motion.grounded > 0, -lowest, standing + motion.lift)
        origin = np.stack([motion.travel, np.zeros_like(height), height], axis=-1)
    placed = {name: points + (origin if points.ndim == 2 else origin[:, None]) for name, points in space.items()}
    return Joints(**placed, front=turn[:, :, 0], left=turn[:, :, 1], up=turn[:, :, 2])


def turned_to_camera(vectors: Array, azimuth: float, elevation: float) -> Array:
    """Rotate directions (…, 3) into the axes of a camera: right, up, away.

    Args:
        vectors: directions in space.
        azimuth: rotation of the camera from the side view, in radians.
        elevation: its tilt, in radians.
    """
    x, y, z = vectors[..., 0], vectors[..., 1], vectors[..., 2]
    right = x * np.cos(azimuth) + y * np.sin(azimuth)
    away = -x * np.sin(azimuth) + y * np.cos(azimuth)
    up = z * np.cos(elevation) - away * np.sin(elevation)
    return np.stack([right, up, away * np.cos(elevation) + z * np.sin(elevation)], axis=-1)


def _rotation(somersault: Array, twist: Array) -> Array:
    """Rotation matrices (T, 3, 3): first the twist about the long axis, then the somersault about the y axis."""
    c, s, ct, st = np.cos(somersault), np.sin(somersault), np.cos(twist), np.sin(twist)
    zero, one = np.zeros_like(c), np.ones_like(c)
    tip = np.stack([np.stack([c, zero, s], -1), np.stack([zero, one, zero], -1), np.stack([-s, zero, c], -1)], 1)
    roll = np.stack([np.stack([ct, -st, zero], -1), np.stack([st, ct, zero], -1), np.stack([zero, zero, one], -1)], 1)
    return tip @ roll


def _swing(angle: Array, spread: Array) -> Array:
    """Unit vectors of a pair of limbs, (T, 2, 3): down at angle 0, forward at pi/2. The left limb spreads to +y."""
    side = np.array([1.0, -1.0])
    return np.stack([np.sin(angle) * np.cos(spread), side * np.sin(spread), -np.cos(angle) * np.cos(spread)], axis=-1)


def _in_body_axes(motion: Motion) -> dict[str, Array]:
    frames = len(motion.twist)

    def point(x: float, z: float) -> Array:
        return np.tile(np.array([x, 0.0, z]), (frames, 1))

    def pair(y: float, z: float) -> Array:
        return np.tile(np.array([[0.0, y, z], [0.0, -y, z]]), (frames, 1, 1))

    shoulders, hips = pair(*SHOULDER), pair(*HIP)
    arm_spread = np.full_like(motion.arm, 0.12)
    elbows = shoulders + UPPER_ARM * _swing(motion.arm, arm_spread)
    hands = elbows + FOREARM * _swing(motion.arm + motion.elbow, arm_spread * 0.3)
    knees = hips + THIGH * _swing(motion.hip, motion.spread)
    ankles = knees + SHIN * _swing(motion.hip - motion.knee, motion.spread)
    # On the floor the foot is at a right angle to the shin. In the air the toes are pointed.
    foot = motion.hip - motion.knee + np.where(motion.grounded[:, None] > 0, np.pi / 2, 0.35)
    return {
        "pelvis": point(0, 0),
        "neck": point(0, NECK),
        "head": point(0.015, HEAD),
        "chest": point(0.075, 0.22),
        "shoulders": shoulders,
        "elbows": elbows,
        "hands": hands,
        "hips": hips,
        "knees": knees,
        "ankles": ankles,
        "toes": ankles + FOOT * _swing(foot, motion.spread),
    }
