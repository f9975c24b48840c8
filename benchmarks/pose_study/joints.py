"""The joints of a set: stored once, with two controls that show no motion."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from sefar_serve.pose import Estimator
from sefar_training.data import JointCache
from sefar_training.data.joint_cache import Joints
from sefar_training.model import PoseNormalizer

from .clips import ClipSet, StudyError

CONTROLS = ("first", "mean")
"""All frames are the first, or the mean over time. The mean is taken of normalised joints, which the model sees."""


def joints_folder(work: Path, control: str = "") -> Path:
    """Where the joints of all sets are stored, or those of a control."""
    return work / (f"joints-{control}" if control else "joints")


def load_joints(clips: ClipSet, work: Path, estimator: Estimator) -> list[Joints]:
    """Load the joints of all clips, float32 (T,1,J,4) each; find those that are not stored yet.

    Raises:
        StudyError: clips cannot be decoded.
    """
    found, errors = JointCache(joints_folder(work), estimator).read(clips.files, threads=1)
    if errors:
        raise StudyError(f"{len(errors)} clips cannot be read, among them {next(iter(errors.values()))}")
    return [found[file] for file in clips.files]


def store_controls(clips: ClipSet, joints: Sequence[Joints], work: Path, estimator: Estimator) -> None:
    """Store both controls of all clips, as clips of a single frame."""
    for control in CONTROLS:
        cache = JointCache(joints_folder(work, control), estimator)
        for file, whole in zip(clips.files, joints, strict=True):
            if not cache.file(file).is_file():
                cache.write(file, whole[:1] if control == "first" else time_mean(whole))


def time_mean(joints: Joints) -> Joints:
    """The mean over time of normalised joints, float32 (1,P,J,4)."""
    normalised = PoseNormalizer()(torch.from_numpy(joints)[None])
    mean: Joints = normalised.mean(dim=1).numpy()
    return mean


def presence(joints: Sequence[Joints]) -> tuple[float, float]:
    """Share of frames in which the person is found, and of clips in which nobody is."""
    seen = [(clip[..., 3] > 0).any(axis=(1, 2)) for clip in joints]
    return float(np.mean(np.concatenate(seen))), float(np.mean([not frames.any() for frames in seen]))
