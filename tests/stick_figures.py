"""Clips of joints with two classes: a stick figure raises an arm, or lowers it. No video is behind them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sefar_serve.lists import ClipKey
from sefar_serve.pose.fake import FakeEstimator
from sefar_serve.pose.joints import JOINTS, NUMBER
from sefar_training.data import JointCache, default_joints_folder

STANDING = {
    "nose": (0, -0.65, -0.1),
    "left_shoulder": (0.18, -0.5, 0),
    "left_elbow": (0.2, -0.25, 0),
    "left_wrist": (0.2, 0, -0.05),
    "left_index": (0.2, 0.05, -0.05),
    "left_hip": (0.1, 0, 0),
    "left_knee": (0.1, 0.4, 0),
    "left_ankle": (0.1, 0.8, 0.05),
}
"""Metres, of the left half of the body."""


def standing() -> NDArray[np.float32]:
    """A figure facing the camera, float32 (J,4)."""
    joints = np.ones((len(JOINTS), 4), np.float32)
    for name, place in STANDING.items():
        joints[NUMBER[name], :3] = place
        other = name.replace("left_", "right_")
        joints[NUMBER[other], :3] = (-place[0], *place[1:])
    return joints


def turned(joints: NDArray[np.float32], angle: float) -> NDArray[np.float32]:
    """Turn joints (...,4) about the vertical axis, by radians."""
    out = joints.copy()
    x, z = joints[..., 0], joints[..., 2]
    out[..., 0], out[..., 2] = np.cos(angle) * x - np.sin(angle) * z, np.sin(angle) * x + np.cos(angle) * z
    return out


def figure(rng: np.random.Generator, label: int, frames: int = 24, persons: int = 1) -> NDArray[np.float32]:
    """A clip, float32 (T,P,J,4): class 0 raises the right arm, class 1 lowers it. Size and direction are random."""
    joints = np.repeat(standing()[None, None], frames, axis=0).repeat(persons, axis=1)
    share = np.clip(np.linspace(-0.3, 1.3, frames) + rng.normal(0, 0.1), 0, 1)
    angle = np.pi * (share if label == 0 else 1 - share)
    shoulder = joints[:, :, NUMBER["right_shoulder"], :3]
    for name, reach in [("right_elbow", 0.25), ("right_wrist", 0.5), ("right_index", 0.55)]:
        joints[:, :, NUMBER[name], 0] = shoulder[..., 0] - reach * np.sin(angle)[:, None]
        joints[:, :, NUMBER[name], 1] = shoulder[..., 1] + reach * np.cos(angle)[:, None]
    joints = turned(joints, rng.uniform(0, 2 * np.pi))
    joints[..., :3] *= rng.uniform(0.7, 1.3)
    joints[..., :3] += rng.normal(0, 0.01, (*joints.shape[:-1], 3))
    return joints.astype(np.float32)


def write_figures(root: Path, lists: dict[str, int], seed: int = 0) -> Path:
    """Write lists of clips of alternating class, `labels.txt`, and their joints where training looks for them.

    Args:
        root: folder to write to.
        lists: number of clips of each list, by its name.
        seed: of all draws.
    """
    rng = np.random.default_rng(seed)
    (root / "labels.txt").write_text("raise\nlower\n")
    for name, count in lists.items():
        paths, labels = [], []
        for number in range(count):
            clip = root / f"{name}{number}.mp4"
            clip.write_text(f"no video, but {clip.name}")
            paths.append(clip)
            labels.append(number % 2)
        store(JointCache(default_joints_folder(root), FakeEstimator()), paths, [figure(rng, n) for n in labels])
        lines = [f"{path.name} {label}\n" for path, label in zip(paths, labels, strict=True)]
        (root / f"{name}.csv").write_text("".join(lines))
    return root


def store(cache: JointCache, clips: Sequence[Path], joints: Sequence[NDArray[np.float32]]) -> None:
    """Put joints of whole files into a cache, as if they had been estimated."""
    cache.folder.mkdir(parents=True, exist_ok=True)
    for clip, found in zip(clips, joints, strict=True):
        np.savez(cache.file(ClipKey(clip)), joints=found)
