"""Joints that nobody had to estimate, because they are known, e.g. to a renderer: archives in a folder.

The folder is in that of the clips. It holds one ``.npz`` file for each split, with the joints of each clip under its
path, and `ABOUT`, which says what they are. `sefar_training.data.TrueJoints` reads it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sefar_serve.atomic import atomic_file
from sefar_serve.pose import JOINTS

ABOUT = "joints.json"
"""File in the folder: names of the joints, and what gave them."""


def write_joints(
    folder: Path, split: str, joints: Mapping[str, NDArray[np.float32]], estimator: str, sha256: str
) -> None:
    """Write the joints of the clips of a split.

    Args:
        folder: in the folder of the clips; created if missing.
        split: name of the archive.
        joints: for the path of each clip, relative to the folder of the clips, its joints in every frame, float32
            (T,P,J,4), as in `sefar_serve.pose.Poses.joints`.
        estimator: what gave them, e.g. ``true:synthgym``.
        sha256: of a description of how they are made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_file(folder / f"{split}.npz") as new, new.open("wb") as stream:
        np.savez_compressed(stream, **dict(joints))
    told = {"joints": JOINTS, "estimator": estimator, "estimator_sha256": sha256}
    with atomic_file(folder / ABOUT) as new:
        new.write_text(json.dumps(told, indent=1) + "\n")
