"""How each action moves: joint angles and body rotation over its phase, before any camera.

Every motion is symmetric in time but for the sense of its rotation, so that an action played
backwards is as natural as played forwards and only the rotation tells which it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .classes import ActionClass, Position

Floats = NDArray[np.float64]
Arms = Literal["sides", "chest", "overhead"]

ANGLES: tuple[str, ...] = (
    "spine",
    *(f"{joint}_{side}" for joint in ("hip", "straddle", "knee", "point", "shoulder", "spread", "elbow")
      for side in ("left", "right")),
)  # fmt: skip
"""Names of the joint angles, degrees. Zero is standing with arms hanging and feet flat; flexion is
positive forward, ``straddle`` and ``spread`` move legs and arms sideways, ``point`` points the toes."""


@dataclass(frozen=True)
class Style:
    """How one gymnast does it, as against the textbook.

    Attributes:
        amplitude: how far the position of the body is taken, 1 is textbook.
        arms: where the arms are in stretched saltos.
        side: +1 or -1, the side twists go to, also which leg is in front.
        travel: floor covered in flight, body heights.
        height: height of flight, relative to textbook.
        rotation_error: over- or under-rotation about the side axis at the start and the end, radians.
        twist_error: the same about the long axis.
    """

    amplitude: float = 1.0
    arms: Arms = "sides"
    side: int = 1
    travel: float = 0.6
    height: float = 1.0
    rotation_error: tuple[float, float] = (0.0, 0.0)
    twist_error: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Motion:
    """A body in motion, T instants.

    Attributes:
        angles: joint angles in degrees, (T, len(ANGLES)).
        somersault: rotation about the side axis, radians, unwrapped, positive forward, (T,).
        twist: rotation about the long axis, radians, unwrapped, positive to the right, (T,).
        air: progress of the flight, 0 before and 1 after it, (T,).
        height: height of the flight, body heights.
        travel: floor covered in flight, body heights, negative backwards.
        support: what holds the body when it is not in flight.
    """

    angles: Floats
    somersault: Floats
    twist: Floats
    air: Floats = field(default_factory=lambda: np.zeros(0))
    height: float = 0.0
    travel: float = 0.0
    support: Literal["feet", "left foot", "right foot", "bar"] = "feet"


def posture(**degrees: float) -> Floats:
    """Joint angles by name; a joint without its side sets both."""
    values = []
    for name in ANGLES:
        joint = name.partition("_")[0]
        values.append(degrees.get(name, degrees.get(joint, 0.0)))
    return np.array(values)


STAND = posture(shoulder=165, spread=8, elbow=5)
CROUCH = posture(spine=22, hip=68, knee=85, shoulder=70, spread=8, elbow=15)
POSITIONS: dict[Position, Floats] = {
    "tucked": posture(spine=38, hip=128, knee=138, point=1, shoulder=78, spread=10, elbow=38),
    "piked": posture(spine=40, hip=122, point=1, shoulder=112, spread=4, elbow=5),
    "stretched": posture(hip=-8, spine=-6, point=1, shoulder=20, spread=10),
    "split": posture(hip_left=88, hip_right=-82, point=1, shoulder=45, spread=78),
    "straddled": posture(spine=28, hip=92, straddle=58, point=1, shoulder=75, spread=32),
    "passe": posture(hip_left=72, straddle_left=12, knee_left=118, point_left=1, shoulder=125, spread=28,
                     elbow=35),
    "tuck stand": posture(spine=16, hip_right=112, knee_right=138, hip_left=88, point_left=1, shoulder=60,
                          spread=62),
}  # fmt: skip
ARMS: dict[Arms, dict[str, float]] = {
    "sides": {"shoulder": 18, "spread": 8, "elbow": 5},
    "chest": {"shoulder": 48, "spread": 4, "elbow": 115},
    "overhead": {"shoulder": 170, "spread": 6, "elbow": 0},
}
HANG = posture(shoulder=178, spread=3, point=1)
SOLE_CIRCLE = posture(spine=42, hip=138, point=0.8, shoulder=128, spread=2)


def smooth(x: Floats) -> Floats:
    """Rise from 0 to 1 while x does, with zero slope at both ends."""
    x = np.clip(x, 0.0, 1.0)
    return x * x * (3 - 2 * x)


def ease(x: Floats, softness: float) -> Floats:
    """From 0 to 1 at a nearly constant rate; `softness` 0 is linear, 1 is `smooth`."""
    x = np.clip(x, 0.0, 1.0)
    return x + softness * (smooth(x) - x)


def plateau(u: Floats, begin: float, full: float) -> Floats:
    """0 up to `begin`, 1 from `full`, and the same mirrored about u = 0.5."""
    return smooth((u - begin) / (full - begin)) * smooth((1 - u - begin) / (full - begin))


def blend(base: Floats, target: Floats, weight: Floats) -> Floats:
    """Joint angles `weight` of the way from base to target, (T, angles)."""
    return base + weight[:, None] * (target - base)


def _mirrored(angles: Floats) -> Floats:
    swap = [
        ANGLES.index(n.replace("left", "*").replace("right", "left").replace("*", "right") if "_" in n else n)
        for n in ANGLES
    ]
    return angles[..., swap]


def _position(action: ActionClass, style: Style) -> Floats:
    target = POSITIONS[action.position].copy()
    if action.position == "stretched":
        for joint, value in ARMS[style.arms].items():
            for side in ("left", "right"):
                target[ANGLES.index(f"{joint}_{side}")] = value
    for index, name in enumerate(ANGLES):
        if name.startswith(("hip", "straddle", "spine")) or (
            name.startswith("knee") and action.position != "tuck stand"
        ):
            target[index] *= style.amplitude
    return target if style.side > 0 else _mirrored(target)


def _whirl(total: float, progress: Floats, error: tuple[float, float]) -> Floats:
    """Angle that goes `total` radians, with small errors at either end."""
    return error[0] + (total + error[1] - error[0]) * progress


def _ground_crouch(u: Floats, take_off: float) -> Floats:
    """Bending the knees before take-off and, mirrored, on landing."""
    low = take_off * 0.55
    dip = smooth(u / low) * smooth((take_off * 1.25 - u) / (take_off * 0.7))
    return dip + (smooth((1 - u) / low) * smooth((take_off * 1.25 - 1 + u) / (take_off * 0.7)))


def _salto(action: ActionClass, u: Floats, style: Style) -> Motion:
    take_off = 0.12 if action.saltos == 1 else 0.09
    sense = -1 if action.direction == "backward" else 1
    air = np.clip((u - take_off) / (1 - 2 * take_off), 0, 1)
    lean = take_off - 0.02
    turning = ease((u - lean) / (1 - 2 * lean), 0.3)
    twisting = ease((u - take_off) / (1 - 2 * take_off), 0.35)
    angles = blend(np.tile(STAND, (len(u), 1)), CROUCH, 0.8 * _ground_crouch(u, take_off))
    angles = blend(angles, _position(action, style), plateau(u, take_off, take_off + 0.13))
    base = {"tucked": 0.6, "piked": 0.68, "stretched": 0.85}[action.position]
    return Motion(
        angles,
        somersault=_whirl(sense * 2 * np.pi * action.saltos, turning, style.rotation_error),
        twist=_whirl(style.side * 2 * np.pi * action.twists, twisting, style.twist_error),
        air=air,
        height=(base + 0.3 * (action.saltos - 1)) * style.height,
        travel=sense * style.travel * (0.5 if action.event == "BB" else 1.0),
    )


def _leap(action: ActionClass, u: Floats, style: Style) -> Motion:
    take_off = 0.14
    air = np.clip((u - take_off) / (1 - 2 * take_off), 0, 1)
    angles = blend(np.tile(STAND, (len(u), 1)), CROUCH, 0.45 * _ground_crouch(u, take_off))
    angles = blend(angles, _position(action, style), plateau(u, 0.08, 0.36))
    leap = action.family == "leap"
    return Motion(
        angles,
        somersault=_whirl(0.0, u, style.rotation_error),
        twist=_whirl(style.side * 2 * np.pi * action.twists, ease((u - 0.1) / 0.8, 0.35), style.twist_error),
        air=air,
        height=(0.42 if leap else 0.5) * style.height,
        travel=(1.6 if leap else 0.25) * style.travel,
    )


def _turn(action: ActionClass, u: Floats, style: Style) -> Motion:
    target = _position(action, style)
    angles = blend(np.tile(STAND, (len(u), 1)), target, plateau(u, -0.06, 0.1))
    return Motion(
        angles,
        somersault=_whirl(0.0, u, style.rotation_error),
        twist=_whirl(style.side * 2 * np.pi * action.twists, ease((u - 0.05) / 0.9, 0.35), style.twist_error),
        air=np.zeros_like(u),
        support="right foot" if style.side > 0 else "left foot",
    )


def _circle(action: ActionClass, u: Floats, style: Style) -> Motion:
    sense = -1 if action.direction == "backward" else 1
    # From hang through handstand to hang: fast below the bar, slow above it. Outside the action the
    # body swings up to that speed and down from it.
    gain = 0.3
    inside = np.clip(u, 0, 1)
    turned = inside + gain * np.sin(2 * np.pi * inside) / (2 * np.pi)
    before, after = np.minimum(u, 0), np.maximum(u - 1, 0)
    turned += (1 + gain) * (before * np.exp(before / 0.12) + after * np.exp(-after / 0.12))
    angles = np.tile(HANG if action.family == "giant" else SOLE_CIRCLE, (len(u), 1))
    if action.family == "giant":
        angles = angles + posture(hip=14, spine=4) * np.cos(2 * np.pi * u)[:, None] * style.amplitude
    return Motion(
        angles,
        somersault=sense * 2 * np.pi * turned + style.rotation_error[0],
        twist=_whirl(style.side * 2 * np.pi * action.twists, ease((u - 0.25) / 0.5, 0.5), style.twist_error),
        support="bar",
    )


def animate(action: ActionClass, u: Floats, style: Style) -> Motion:
    """The motion of an action.

    Args:
        action: what is done.
        u: phase of each instant, 0 at the beginning of the action and 1 at its end, outside that
            the body stands or hangs, (T,).
        style: how it is done.
    """
    if action.family == "salto":
        return _salto(action, u, style)
    if action.family in ("leap", "jump"):
        return _leap(action, u, style)
    if action.family == "turn":
        return _turn(action, u, style)
    return _circle(action, u, style)


def with_joint_noise(motion: Motion, amplitude: float, rng: np.random.Generator, time: Floats) -> Motion:
    """The same motion with slow small wobbling of every joint, `amplitude` degrees, `time` in clips."""
    count = len(ANGLES)
    size = rng.uniform(0, amplitude, count)
    rate, phase = rng.uniform(0.5, 2.0, count), rng.uniform(0, 2 * np.pi, count)
    # Degrees only: `point` is a share of the way to pointed toes.
    size[[n.startswith("point") for n in ANGLES]] = 0
    wobble = size * np.sin(2 * np.pi * rate * time[:, None] + phase)
    return replace(motion, angles=motion.angles + wobble)
