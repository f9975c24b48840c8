"""The gymnast's motion: joint angles and body orientation over the phase of an action.

Pure functions of the phase u in [0, 1], vectorised over frames. Only forward classes have a motion; their opposites
show it in reverse. Timing is symmetric about the middle, so that a reversed action is as plausible as the original.
Angles are in radians.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sefar_training.synthgym.classes import ActionClass

Array = NDArray[np.float64]

FLIGHT = (0.15, 0.85)
"""Phases of take-off and landing."""


@dataclass
class Motion:
    """Pose of the body in each of T frames; arrays float64 (T,), sides float64 (T, 2) as left, right.

    Attributes:
        somersault: about the lateral axis; positive tips the head forward.
        twist: about the long axis.
        travel: along the floor, in body heights.
        lift: of the body above standing, in body heights.
        hip: flexion of each hip; positive brings the thigh forward.
        spread: abduction of each leg, sideways.
        knee: flexion of each knee.
        arm: elevation of each arm: 0 down, pi/2 forward, pi overhead.
        elbow: flexion of each elbow.
        grounded: 1 while the feet are on the floor, 0 in flight or on the bar.
        on_bar: whether the hands hold the bar.
    """

    somersault: Array
    twist: Array
    travel: Array
    lift: Array
    hip: Array
    spread: Array
    knee: Array
    arm: Array
    elbow: Array
    grounded: Array
    on_bar: bool = False


def smooth(x: Array, low: float, high: float) -> Array:
    """Smoothstep from 0 at `low` to 1 at `high`."""
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return t * t * (3 - 2 * t)


def bump(x: Array, low: float, high: float, ramp: float) -> Array:
    """Rise after `low`, stay at 1, fall before `high`."""
    return smooth(x, low, low + ramp) * (1 - smooth(x, high - ramp, high))


def sides(left: Array, right: Array | None = None) -> Array:
    """Stack left and right as (T, 2); without `right`, both are equal."""
    return np.stack([left, left if right is None else right], axis=-1)


def motion(action: ActionClass, phase: Array, amplitude: float = 1.0) -> Motion:
    """Compute the motion of an action.

    Args:
        action: a class that is not the backward one of a pair.
        phase: float64 (T,) in [0, 1], ascending.
        amplitude: factor on heights and flexions, about 1.
    """
    return {"salto": _salto, "giant": _giant, "jump": _jump, "turn": _turn}[action.family](action, phase, amplitude)


# Flexion of hip and knee, elevation of the arms and flexion of the elbows, in degrees, in the full position.
_SHAPES = {
    "tucked": (125, 140, 55, 35),
    "piked": (118, 4, 78, 4),
    "stretched": (-6, 0, 12, 95),
}


def _crouch(u: Array) -> Array:
    """How far the gymnast crouches before take-off and after landing."""
    return bump(u, 0.02, FLIGHT[0] + 0.02, 0.08) + bump(u, FLIGHT[1] - 0.02, 0.98, 0.08)


def _salto(action: ActionClass, u: Array, amplitude: float) -> Motion:
    flight = np.clip((u - FLIGHT[0]) / (FLIGHT[1] - FLIGHT[0]), 0, 1)
    shape = bump(flight, 0.04, 0.96, 0.22)
    crouch = _crouch(u)
    hip, knee, arm, elbow = np.radians(_SHAPES[action.position])
    bend = amplitude * shape
    # The arms go up for take-off and landing, and into the position in between.
    raised = 1 - bump(u, 0.0, 1.0, 0.18) + (bump(u, 0.1, 0.9, 0.12) - shape).clip(0)
    return Motion(
        somersault=2 * np.pi * action.saltos * (0.75 * flight + 0.25 * smooth(flight, 0, 1)),
        twist=2 * np.pi * action.twists * smooth(flight, 0.12, 0.88),
        travel=1.1 * (u - 0.5),
        lift=(0.5 + 0.2 * (action.saltos - 1)) * amplitude * 4 * flight * (1 - flight),
        hip=sides(hip * bend + 0.6 * crouch),
        spread=sides(np.full_like(u, 0.06)),
        knee=sides(knee * bend + 1.0 * crouch),
        arm=sides(arm * shape + np.radians(165) * (1 - shape) * (1 - 0.75 * np.clip(raised, 0, 1))),
        elbow=sides(elbow * shape),
        grounded=((u <= FLIGHT[0]) | (u >= FLIGHT[1])).astype(np.float64),
    )


def _giant(action: ActionClass, u: Array, amplitude: float) -> Motion:
    shape = amplitude * bump(u, 0.12, 0.88, 0.2)
    if action.position == "stretched":
        hip, spread = 0.22 * np.sin(2 * np.pi * u) ** 2, np.zeros_like(u)
    else:
        hip, spread = np.radians(112) * shape, np.radians(70 if action.position == "straddled" else 0) * shape
    flat = np.zeros_like(u)
    return Motion(
        # Once around, from a handstand on the bar.
        somersault=np.pi + 2 * np.pi * (0.7 * u + 0.3 * smooth(u, 0, 1)),
        twist=2 * np.pi * action.twists * smooth(u, 0.2, 0.8),
        travel=flat,
        lift=flat,
        hip=sides(hip),
        spread=sides(spread + 0.03),
        knee=sides(flat),
        arm=sides(np.full_like(u, np.pi)),
        elbow=sides(flat),
        grounded=flat,
        on_bar=True,
    )


def _jump(action: ActionClass, u: Array, amplitude: float) -> Motion:
    flight = np.clip((u - FLIGHT[0]) / (FLIGHT[1] - FLIGHT[0]), 0, 1)
    shape = amplitude * bump(flight, 0.08, 0.92, 0.3)
    crouch = _crouch(u)
    flat = np.zeros_like(u)
    front, back, knee, spread, arm = {
        "split": (85, -85, (0, 0), 0, 95),
        "straddled": (88, 88, (0, 0), 68, 85),
        "tucked": (115, 115, (125, 125), 0, 70),
        "wolf": (88, 112, (0, 130), 0, 90),
    }[action.position]
    return Motion(
        somersault=flat,
        twist=2 * np.pi * action.twists * smooth(flight, 0.05, 0.95),
        travel=0.5 * (u - 0.5),
        lift=0.42 * amplitude * 4 * flight * (1 - flight),
        hip=sides(np.radians(front) * shape + 0.6 * crouch, np.radians(back) * shape + 0.6 * crouch),
        spread=sides(np.radians(spread) * shape + 0.05),
        knee=sides(np.radians(knee[0]) * shape + 1.0 * crouch, np.radians(knee[1]) * shape + 1.0 * crouch),
        arm=sides(np.radians(arm) * shape + np.radians(150) * smooth(crouch, 0, 1) * 0.4),
        elbow=sides(flat),
        grounded=((u <= FLIGHT[0]) | (u >= FLIGHT[1])).astype(np.float64),
    )


def _turn(action: ActionClass, u: Array, amplitude: float) -> Motion:
    shape = amplitude * bump(u, 0.04, 0.96, 0.16)
    flat = np.zeros_like(u)
    # Support leg first: hip and knee; then free leg: hip and knee; then arms.
    support_hip, support_knee, free_hip, free_knee, arm = {
        "upright": (0, 0, 62, 112, 170),
        "tuck stand": (118, 142, 88, 0, 95),
        "leg held up": (0, 0, 165, 0, 150),
    }[action.position]
    return Motion(
        somersault=flat,
        twist=2 * np.pi * action.twists * smooth(u, 0.14, 0.86),
        travel=flat,
        lift=flat,
        hip=sides(np.radians(free_hip) * shape, np.radians(support_hip) * shape),
        spread=sides(np.full_like(u, 0.05)),
        knee=sides(np.radians(free_knee) * shape, np.radians(support_knee) * shape),
        arm=sides(np.radians(arm) * shape),
        elbow=sides(flat),
        grounded=np.ones_like(u),
    )
