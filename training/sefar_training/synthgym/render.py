"""Draw the gymnast: project joints through a camera and draw limbs over a background, from far to near."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sefar_training.captions import caption
from sefar_training.synthgym.classes import ActionClass, action_class
from sefar_training.synthgym.joints import true_joints
from sefar_training.synthgym.motion import motion
from sefar_training.synthgym.nuisance import Look, Preset, draw_look, find_preset
from sefar_training.synthgym.skeleton import BAR_HEIGHT, Joints, pose, turned_to_camera

Array = NDArray[np.float64]

OVERSAMPLE = 2
"""Frames are drawn larger by this factor and averaged down, for smooth edges and fractional widths."""

POSE_NAMES = (
    "up_x", "up_y", "front_x", "front_y", "left_x", "left_y", "hip", "knee", "split", "arm", "centre_x", "centre_y",
)  # fmt: skip
"""Columns of `RenderedClip.pose`: the body's axes (head, front, left) in the image plane, x to the right and y up, in
[-1, 1]; mean hip flexion, knee flexion and arm elevation, divided by pi; the difference of the hip flexions, divided by
pi; the position of the pelvis in the frame, in [-1, 1]. All can be seen in a single frame."""


@dataclass(frozen=True)
class RenderedClip:
    """A clip before encoding.

    Attributes:
        frames: uint8 (T, H, W, 3) RGB.
        fps: frames per second.
        pose: float32 (T, len(POSE_NAMES)).
        action: the class.
        caption: a sentence that describes it.
        crf: x264 constant rate factor to encode with.
        params: some of the random parameters, for information.
    """

    frames: NDArray[np.uint8]
    fps: Fraction
    pose: NDArray[np.float32]
    action: ActionClass
    caption: str
    crf: int
    params: dict[str, Any]


def render_clip(action: ActionClass | int | str, seed: int, preset: str | Preset = "standard") -> RenderedClip:
    """Render one clip.

    A backward class is rendered as its forward opposite with the same seed and reversed, so the two are exact
    opposites: they have the same frames in opposite order.

    Args:
        action: the class, its number or its name.
        seed: seed of everything random in the clip.
        preset: how much clips vary.

    Raises:
        ValueError: unknown class or preset.
    """
    action, preset = action_class(action), find_preset(preset)
    drawn = action.as_forward
    look, joints, values = _take(drawn, seed, preset)
    frames, poses = draw_scene(joints, values, look, drawn)
    if action is not drawn:
        frames, poses = frames[::-1], poses[::-1]
    return RenderedClip(
        frames=np.ascontiguousarray(frames),
        fps=look.rate,
        pose=np.ascontiguousarray(poses, np.float32),
        action=action,
        caption=caption(action.name, seed),
        crf=look.crf,
        params={"frames": len(frames), "size": look.size, "mirror": look.mirror, "azimuth": look.azimuth},
    )


def clip_joints(action: ActionClass | int | str, seed: int, preset: str | Preset = "standard") -> NDArray[np.float32]:
    """The true joints of a clip in every frame, without drawing it.

    Args:
        action: the class, its number or its name.
        seed: seed of everything random in the clip.
        preset: how much clips vary.

    Returns:
        float32 (T,1,J,4), see `true_joints`.

    Raises:
        ValueError: unknown class or preset.
    """
    action = action_class(action)
    look, body, _ = _take(action.as_forward, seed, find_preset(preset))
    joints = true_joints(body, look)
    return joints if action is action.as_forward else np.ascontiguousarray(joints[::-1])


def _take(drawn: ActionClass, seed: int, preset: Preset) -> tuple[Look, Joints, Array]:
    """Everything that is drawn at random for a clip; see `perform`."""
    rng = np.random.default_rng([seed, drawn.index])
    look = draw_look(rng, preset)
    count = int(rng.integers(preset.frames[0], preset.frames[1] + 1))
    before, after = rng.uniform(0, preset.padding, 2)
    return look, *perform(drawn, count, before, after, rng, preset)


def perform(
    action: ActionClass, count: int, before: float, after: float, rng: np.random.Generator, preset: Preset
) -> tuple[Joints, Array]:
    """Compute the gymnast's performance of an action over `count` frames.

    Args:
        action: a class that is not the backward one of a pair.
        count: number of frames T.
        before: share of the clip before the action begins.
        after: share of the clip after it ends.
        rng: source of variation.
        preset: how much clips vary.

    Returns:
        The body in space, and float64 (T, 4): hip, knee, split and arm angles, divided by pi.
    """
    time = (np.arange(count) + 0.5) / count
    phase = np.clip((time - before) / (1 - before - after), 0, 1)
    moved = motion(action, phase, 1 + float(rng.uniform(-preset.amplitude, preset.amplitude)))
    # The direction of the twist and the leading leg say nothing about the class.
    if rng.integers(2):
        moved.twist = -moved.twist
    if rng.integers(2):
        moved.hip, moved.knee = moved.hip[:, ::-1], moved.knee[:, ::-1]
    moved.travel = moved.travel * float(rng.uniform(0.3, 1.0))
    angles = np.stack(
        [moved.hip.mean(1), moved.knee.mean(1), moved.hip[:, 0] - moved.hip[:, 1], moved.arm.mean(1)], axis=-1
    )
    return pose(moved), angles / np.pi


def draw_scene(joints: Joints, angles: Array, look: Look, action: ActionClass) -> tuple[NDArray[np.uint8], Array]:
    """Draw a performance.

    Args:
        joints: the body in space over T frames.
        angles: float64 (T, 4), see `perform`.
        look: camera, colours and light.
        action: the class, for the apparatus: bar, beam or floor.

    Returns:
        uint8 frames (T, H, W, 3) and pose values float64 (T, len(POSE_NAMES)).
    """
    width, height = look.size
    camera = _Camera(look, len(joints.pelvis), on_bar=action.event == "UB")
    stage = _background(look, camera, action)
    frames = np.empty((len(joints.pelvis), height, width, 3), np.uint8)
    limbs = _limbs(joints, look, camera)
    for t in range(len(frames)):
        picture = camera.shifted(stage, t)
        for _, colour, thickness, a, b in sorted(
            ((depth[t], colour, thickness, a[t], b[t]) for depth, colour, thickness, a, b in limbs),
            key=lambda limb: -limb[0],
        ):
            cv2.line(picture, a.tolist(), b.tolist(), colour, thickness, cv2.LINE_8, _SHIFT)
        small = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
        moment = (t + 0.5) / len(frames) - 0.5
        light = look.gain * (1 + look.gain_slope * moment) * np.array(look.tint, np.float32)
        frames[t] = np.clip(small * light, 0, 255)
    if look.mirror:
        frames = frames[:, :, ::-1]
    return frames, _pose_values(joints, angles, look, camera)


_SHIFT = 4
"""Fractional bits of OpenCV's drawing coordinates."""


class _Camera:
    """A weak-perspective camera from the side, slightly rotated, with drift and shake over the clip."""

    def __init__(self, look: Look, frames: int, *, on_bar: bool) -> None:
        self.look = look
        width, height = (OVERSAMPLE * side for side in look.size)
        self.width, self.height = width, height
        self.scale = look.zoom * height * (0.84 if on_bar else 1.0)
        # The camera's target: the bar, or half-way between the floor and the top of a flight.
        self.aim = np.array([0.0, 0.0, BAR_HEIGHT if on_bar else 0.82])
        moment = (np.arange(frames) + 0.5) / frames - 0.5
        offsets = []
        for axis in range(2):
            shake = sum(
                amplitude * np.sin(2 * np.pi * cycles * moment + phase)
                for amplitude, cycles, phase in look.shake[axis::2]
            )
            offsets.append((look.drift[axis] * moment + shake) * height)
        self.offset = np.stack(offsets, axis=-1)

    def turned(self, vectors: Array) -> Array:
        """Rotate directions (…, 3) into camera axes: right, up, away."""
        return turned_to_camera(vectors, self.look.azimuth, self.look.elevation)

    def project(self, points: Array) -> tuple[Array, Array]:
        """Project points (T, 3) to pixels (T, 2) at drawing size and depths (T,)."""
        seen = self.turned(points - self.aim)
        near = 1 / (1 + 0.08 * seen[..., 2:])
        flat = seen[..., :2] * near * self.scale * np.array([1.0, -1.0])
        return flat + np.array([self.width / 2, self.height / 2]) + self.offset, seen[..., 2]

    def shifted(self, stage: NDArray[np.uint8], t: int) -> NDArray[np.uint8]:
        """The part of the background in view at frame t."""
        margin = (stage.shape[1] - self.width) // 2, (stage.shape[0] - self.height) // 2
        left, top = (round(m - o) for m, o in zip(margin, self.offset[t], strict=True))
        return stage[top : top + self.height, left : left + self.width].copy()


def _background(look: Look, camera: _Camera, action: ActionClass) -> NDArray[np.uint8]:
    """Draw wall, floor, apparatus and texture, with a margin for camera movement."""
    rng = np.random.default_rng(look.seed)
    margin = int(0.2 * camera.height)
    width, height = camera.width + 2 * margin, camera.height + 2 * margin
    stage = np.empty((height, width, 3), np.float32)
    stage[:] = look.wall
    stage += np.linspace(-12, 12, height, dtype=np.float32)[:, None, None] * rng.choice([-1, 0, 1])
    ground = round(margin + camera.height / 2 + camera.scale * camera.aim[2] * np.cos(look.elevation))
    if ground < height:
        stage[ground:] = look.floor
    for _ in range(look.shapes):
        x, y = int(rng.integers(width)), int(rng.integers(ground if ground > 8 else height))
        w, h = (int(rng.integers(0.1 * camera.height, 0.4 * camera.height)) for _ in range(2))
        stage[max(y - h, 0) : y, x : x + w] += float(rng.uniform(-14, 14))
    if look.texture > 0:
        coarse = rng.normal(0, 1, (height // 16 + 1, width // 16 + 1)).astype(np.float32)
        blobs = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        stage += look.texture * 0.5 * blobs[..., None]
    picture = np.clip(stage, 0, 255).astype(np.uint8)
    centre = margin + camera.width // 2
    dark = tuple(float(v) * 0.55 for v in look.floor)
    if action.event == "UB":
        bar = margin + camera.height // 2
        cv2.line(picture, (centre, bar), (centre, height), dark, max(2, round(0.02 * camera.scale)))
        cv2.circle(picture, (centre, bar), max(2, round(0.03 * camera.scale)), dark, -1)
    elif action.event == "BB" and ground < height:
        half, thick = round(0.9 * camera.scale), max(3, round(0.09 * camera.scale))
        cv2.rectangle(picture, (centre - half, ground), (centre + half, ground + thick), dark, -1)
    return picture


_Limb = tuple[Array, tuple[float, float, float], int, NDArray[np.int64], NDArray[np.int64]]


def _limbs(joints: Joints, look: Look, camera: _Camera) -> list[_Limb]:
    """All limbs: depth (T,), colour, thickness in pixels, and end points (T, 2) in fixed point."""

    def shade(colour: tuple[float, float, float], factor: float) -> tuple[float, float, float]:
        red, green, blue = (min(255.0, channel * factor) for channel in colour)
        return red, green, blue

    limbs: list[_Limb] = []

    def limb(a: Array, b: Array, width: float, colour: tuple[float, float, float], bias: float = 0.0) -> None:
        (pa, da), (pb, db) = camera.project(a), camera.project(b)
        thickness = max(1, round(width * look.thickness * camera.scale))
        fixed = [np.round(p * (1 << _SHIFT)).astype(np.int64) for p in (pa, pb)]
        limbs.append(((da + db) / 2 - bias, colour, thickness, fixed[0], fixed[1]))

    # Left and right differ in lightness, front and back in colour, so that a twist is visible in a single frame.
    for side, factor in ((0, 1.0), (1, 0.55)):
        skin, suit = shade(look.skin, factor), shade(look.suit, factor * 0.95)
        limb(joints.hips[:, side], joints.knees[:, side], 0.105, suit)
        limb(joints.knees[:, side], joints.ankles[:, side], 0.08, skin)
        limb(joints.ankles[:, side], joints.toes[:, side], 0.055, skin)
        limb(joints.shoulders[:, side], joints.elbows[:, side], 0.07, skin)
        limb(joints.elbows[:, side], joints.hands[:, side], 0.058, skin)
    limb(joints.pelvis, joints.neck, 0.165, look.suit)
    limb(joints.shoulders[:, 0], joints.shoulders[:, 1], 0.09, look.suit)
    limb(joints.chest, joints.chest + 0.06 * joints.up, 0.07, shade(look.hair, 1.0), bias=0.01)
    limb(joints.head, joints.head, 0.135, shade(look.skin, 1.05))
    limb(joints.head - 0.035 * joints.front, joints.head - 0.035 * joints.front + 0.02 * joints.up, 0.125, look.hair)
    limb(joints.head + 0.06 * joints.front, joints.head + 0.07 * joints.front, 0.05, shade(look.skin, 1.1))
    return limbs


def _pose_values(joints: Joints, angles: Array, look: Look, camera: _Camera) -> Array:
    flip = np.array([-1.0 if look.mirror else 1.0, 1.0])
    axes = [camera.turned(axis)[:, :2] * flip for axis in (joints.up, joints.front, joints.left)]
    pixel, _ = camera.project(joints.pelvis)
    centre = (2 * pixel / np.array([camera.width, camera.height]) - 1) * flip * np.array([1.0, -1.0])
    hip, knee, split, arm = angles.T
    return np.concatenate([*axes, np.stack([hip, knee, np.abs(split), arm], -1), centre], axis=-1)
