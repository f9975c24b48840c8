"""What a folder of joints holds: those that training estimates and keeps, extracted ones, or true ones."""

from __future__ import annotations

from pathlib import Path

from sefar_serve.pose import Estimator, make_estimator

from .joint_cache import JointCache
from .joint_shards import JointShards, is_shards
from .joint_source import JointSource
from .true_joints import TrueJoints, is_true_joints


def open_joints(folder: Path, root: Path, persons: int, estimator: Estimator | None = None) -> JointSource:
    """Open a folder of joints.

    Args:
        folder: with Parquet files of `sefar extract --poses`, with true joints, or any other, in which joints are
            stored when they have been estimated.
        root: folder of the clips.
        persons: number of persons P that the model sees.
        estimator: finds joints that are not stored yet; None for MediaPipe's, which is loaded only if needed.

    Raises:
        StoredJointsError: the stored joints are not those that the model takes.
        PoseSetupError: MediaPipe's models are missing and cannot be downloaded.
        ModuleNotFoundError: the extra `pose` is not installed, or `batch` for Parquet files.
    """
    if is_true_joints(folder):
        return TrueJoints(folder, persons)
    if is_shards(folder):
        return JointShards(folder, root, persons)
    return JointCache(folder, estimator or make_estimator(), persons)
