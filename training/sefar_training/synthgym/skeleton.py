"""From joint angles to points in space: forward kinematics of the gymnast, and where the floor or bar holds them.

World axes: x along the gymnast's heading, y up, z to the gymnast's right. Lengths are in body heights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .motion import ANGLES, Floats, Motion

POINTS: tuple[str, ...] = (
    "pelvis", "neck", "head", "face", "hair", "nose", "chest_low", "chest_high", "back_low", "back_high",
    *(f"{point}_{side}" for side in ("left", "right")
      for point in ("hip", "knee", "ankle", "toe", "shoulder", "elbow", "hand")),
)  # fmt: skip
POINT = {name: index for index, name in enumerate(POINTS)}
FEET = [POINT[f"{point}_{side}"] for side in ("left", "right") for point in ("ankle", "toe")]

BAR_HEIGHT = 1.75
"""Height of the bar over the floor, body heights."""


@dataclass(frozen=True)
class Build:
    """Proportions of a body, relative to the average gymnast.

    Attributes:
        legs: length of the legs.
        arms: length of the arms.
        girth: thickness of everything.
    """

    legs: float = 1.0
    arms: float = 1.0
    girth: float = 1.0


@dataclass(frozen=True)
class Figure:
    """A placed body.

    Attributes:
        points: world position of every point of `POINTS`, (T, P, 3).
        axes: world direction of the body's forward, up and right axes as columns, (T, 3, 3).
    """

    points: Floats
    axes: Floats


def _sagittal(degrees: Floats, sideways: Floats) -> Floats:
    """Unit vector that hangs down at 0 and swings forward with `degrees`, then sideways (to +z)."""
    a, b = np.radians(degrees), np.radians(sideways)
    return np.stack([np.sin(a) * np.cos(b), -np.cos(a) * np.cos(b), np.sin(b)], axis=-1)


def body_axes(somersault: Floats, twist: Floats, heading: Floats) -> Floats:
    """Body axes (forward, up, right as columns) in the world after heading, somersault and twist, (T,3,3)."""
    cs, ss, ct, st = np.cos(somersault), np.sin(somersault), np.cos(twist), np.sin(twist)
    ch, sh = np.cos(heading), np.sin(heading)
    zero, one = np.zeros_like(cs), np.ones_like(cs)

    def matrix(*rows: list[Floats]) -> Floats:
        return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)

    turn = matrix([ch, zero, -sh], [zero, one, zero], [sh, zero, ch])
    roll = matrix([cs, ss, zero], [-ss, cs, zero], [zero, zero, one])
    spin = matrix([ct, zero, -st], [zero, one, zero], [st, zero, ct])
    return turn @ roll @ spin


def local_points(angles: Floats, build: Build) -> Floats:
    """Points of the body in its own axes (forward, up, right), the pelvis at the origin, (T, P, 3)."""
    value = {name: angles[:, index] for index, name in enumerate(ANGLES)}
    count = len(angles)
    out = np.zeros((count, len(POINTS), 3))
    zero = np.zeros(count)

    up = -_sagittal(-value["spine"], zero)
    front = np.stack([up[:, 1], -up[:, 0], zero], axis=-1)
    neck = 0.30 * up
    head = neck + 0.115 * up
    out[:, POINT["neck"]], out[:, POINT["head"]] = neck, head
    out[:, POINT["face"]] = head + 0.034 * front
    out[:, POINT["hair"]] = head - 0.022 * front + 0.018 * up
    out[:, POINT["nose"]] = head + 0.112 * front - 0.005 * up
    out[:, POINT["chest_low"]], out[:, POINT["chest_high"]] = (
        0.07 * up + 0.042 * front,
        0.25 * up + 0.05 * front,
    )
    out[:, POINT["back_low"]], out[:, POINT["back_high"]] = (
        0.05 * up - 0.042 * front,
        0.25 * up - 0.042 * front,
    )

    for side, sign in (("left", -1.0), ("right", 1.0)):
        across = np.array([0.0, 0.0, sign])
        hip = 0.055 * across + zero[:, None]
        bend, aside = value[f"hip_{side}"], sign * value[f"straddle_{side}"]
        shin_bend = bend - value[f"knee_{side}"]
        knee = hip + 0.245 * build.legs * _sagittal(bend, aside)
        ankle = knee + 0.235 * build.legs * _sagittal(shin_bend, aside)
        toe = ankle + 0.105 * _sagittal(shin_bend + 88 - 72 * value[f"point_{side}"], aside)
        shoulder = 0.27 * up + 0.105 * across
        lift, spread = value[f"shoulder_{side}"] - value["spine"], sign * value[f"spread_{side}"]
        elbow = shoulder + 0.165 * build.arms * _sagittal(lift, spread)
        # A bent elbow also brings the hand to the middle, as when wrapping the arms for a twist.
        inward = spread - sign * 0.35 * value[f"elbow_{side}"]
        hand = elbow + 0.165 * build.arms * _sagittal(lift + value[f"elbow_{side}"], inward)
        for name, point in (("hip", hip), ("knee", knee), ("ankle", ankle), ("toe", toe),
                            ("shoulder", shoulder), ("elbow", elbow), ("hand", hand)):  # fmt: skip
            out[:, POINT[f"{name}_{side}"]] = point
    return out


def _flight(root: Floats, air: Floats, height: float) -> Floats:
    """Replace the airborne part of the pelvis's path by a parabola between its two ends."""
    flying = (air > 0) & (air < 1)
    if not flying.any():
        return root
    first, last = np.flatnonzero(flying)[[0, -1]]
    start, end = root[max(first - 1, 0)], root[min(last + 1, len(root) - 1)]
    x = air[flying, None]
    root = root.copy()
    root[flying] = start + x * (end - start) + [0.0, height, 0.0] * (4 * x * (1 - x))
    return root


def place(motion: Motion, build: Build, heading: float = 0.0, start: float = 0.0) -> Figure:
    """Put the body into the world: feet on the floor (y = 0), hands on the bar, or in flight.

    Args:
        motion: the T instants.
        build: proportions.
        heading: direction the gymnast faces at the start, radians, 0 along x.
        start: x where the action begins.
    """
    count = len(motion.angles)
    axes = body_axes(motion.somersault, motion.twist, np.full(count, heading))
    points = np.einsum("tij,tpj->tpi", axes, local_points(motion.angles, build))
    if motion.support == "bar":
        hands = (points[:, POINT["hand_left"]] + points[:, POINT["hand_right"]]) / 2
        root = np.array([0.0, BAR_HEIGHT, 0.0]) - hands
    else:
        sides = motion.support.split()[:1] if "foot" in motion.support else ["left", "right"]
        contact = np.mean([points[:, POINT[f"ankle_{side}"]] for side in sides], axis=0)
        landed = (motion.air >= 1)[:, None] if len(motion.air) else np.zeros((count, 1), bool)
        along = np.array([np.cos(heading), 0.0, np.sin(heading)])
        root = np.array([start, 0.0, 0.0]) + np.where(landed, motion.travel * along, 0.0) - contact
        root[:, 1] = -points[:, FEET, 1].min(axis=1)
        root = _flight(root, motion.air, motion.height)
    return Figure(points + root[:, None], axes)
