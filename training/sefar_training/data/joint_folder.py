"""What a folder of joints holds: those that training estimates and keeps, extracted ones, or true ones."""

from __future__ import annotations

from pathlib import Path

from sefar_serve.pose import Estimator, make_estimator

from .joint_cache import JointCache
from .joint_shards import JointShards, is_shards
from .joint_source import JointSource, StoredJointsError
from .true_joints import TrueJoints, is_true_joints


def default_joints_folder(root: Path) -> Path:
    """Where the joints of the clips below a folder are stored: beside the clips, so that all runs share them."""
    return root / ".sefar" / "joints"


def open_joints(
    folder: Path | None, root: Path, persons: int, frames: int, estimator: Estimator | None = None
) -> JointSource:
    """Open a folder of joints.

    Args:
        folder: with Parquet files of `sefar extract --poses`, with true joints, or any other, in which joints are
            stored when they have been estimated; None for `default_joints_folder`, which is created if missing.
        root: folder of the clips.
        persons: number of persons P that the model sees.
        frames: number of frames F that the model takes.
        estimator: finds joints that are not stored yet; None for MediaPipe's, which is loaded only if needed.

    Raises:
        StoredJointsError: the folder does not exist, or its joints are not those that the model takes.
        PoseSetupError: MediaPipe's models are missing and cannot be downloaded.
        ModuleNotFoundError: the extra `pose` is not installed, or `batch` for Parquet files.
    """
    if folder is None:
        return JointCache(default_joints_folder(root), estimator or make_estimator(), persons)
    if not folder.is_dir():
        # A folder with a misspelt name must not be created, and its joints estimated again.
        raise StoredJointsError(
            f"there is no folder of joints {folder}; a relative path starts at the folder of the videos, {root}. "
            "Check the path, or create the folder to store estimated joints in it"
        )
    if is_true_joints(folder):
        return TrueJoints(folder, persons)
    if is_shards(folder):
        return JointShards(folder, root, persons, frames)
    return JointCache(folder, estimator or make_estimator(), persons)
