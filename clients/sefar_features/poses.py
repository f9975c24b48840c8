"""What the joints of a folder are: written by `sefar extract --poses` into the metadata of every Parquet file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .errors import FeaturesError

_KEY = b"sefar.poses"


@dataclass(frozen=True)
class PoseDescription:
    """The joints of a folder.

    Attributes:
        shape: (F, P, J, 4) of one clip: frames, persons, joints; x, y, z in metres and visibility in [0, 1].
        joints: names of the J joints.
        estimator: name of the pose estimator that found them.
        estimator_sha256: of its weights; joints of other weights are not the same.
    """

    shape: tuple[int, int, int, int]
    joints: tuple[str, ...]
    estimator: str
    estimator_sha256: str


def pose_description(metadata: Mapping[bytes, bytes], file: Path) -> PoseDescription:
    """Read the description from the metadata of a Parquet schema.

    Args:
        metadata: keys and values of the schema.
        file: the file that it is from, for messages.

    Raises:
        FeaturesError: the file was written without `--poses`, or its metadata is damaged.
    """
    if _KEY not in metadata:
        raise FeaturesError(f"{file.parent} has no poses; extract them with `sefar extract --poses`")
    try:
        told = json.loads(metadata[_KEY])
        frames, persons, joints, numbers = map(int, told["shape"])
        names = tuple(map(str, told["joints"]))
        return PoseDescription(
            (frames, persons, joints, numbers), names, str(told["estimator"]), str(told["estimator_sha256"])
        )
    except (ValueError, KeyError, TypeError) as error:
        raise FeaturesError(f"{file} has damaged metadata ({_KEY.decode()}: {error}); copy it again") from error
