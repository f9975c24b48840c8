"""The joints of a skeleton: names, bones, and which are left and right of each other."""

from __future__ import annotations

from typing import Final

JOINTS: Final = (
    "nose",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_index",
    "right_index",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
)
"""Names in the order of the joint axis. Left and right are the person's own."""

NUMBER: Final = {name: number for number, name in enumerate(JOINTS)}
"""Number of each joint by name."""

PAIRS: Final = tuple(
    (number, NUMBER[name.replace("left_", "right_")]) for name, number in NUMBER.items() if name.startswith("left_")
)
"""(left, right) numbers of each pair."""

MIRROR: Final = tuple(
    NUMBER[name.replace("left_", "right_") if name.startswith("left_") else name.replace("right_", "left_")]
    for name in JOINTS
)
"""``joints[..., MIRROR, :]`` swaps left and right. Negate x as well to mirror a pose."""

EDGES: Final = tuple(
    (NUMBER[a], NUMBER[b])
    for a, b in (
        ("left_shoulder", "right_shoulder"),
        ("left_hip", "right_hip"),
        ("left_shoulder", "left_hip"),
        ("right_shoulder", "right_hip"),
        ("left_shoulder", "left_elbow"),
        ("right_shoulder", "right_elbow"),
        ("left_elbow", "left_wrist"),
        ("right_elbow", "right_wrist"),
        ("left_wrist", "left_index"),
        ("right_wrist", "right_index"),
        ("left_hip", "left_knee"),
        ("right_hip", "right_knee"),
        ("left_knee", "left_ankle"),
        ("right_knee", "right_ankle"),
    )
)
"""Bones, as pairs of joint numbers. The nose has none: `draw_skeleton` joins it to the middle of the shoulders."""

SHOULDERS: Final = (NUMBER["left_shoulder"], NUMBER["right_shoulder"])
HIPS: Final = (NUMBER["left_hip"], NUMBER["right_hip"])
