"""Where the joints of clips come from: estimated and cached, extracted into Parquet files, or known to a renderer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from sefar_serve.errors import SefarError
from sefar_serve.lists import ClipKey
from sefar_serve.pose import JOINTS

Joints = NDArray[np.float32]
"""(T,P,J,4), as in `sefar_serve.pose.Poses.joints`, in order of time: the frames at the centres of T equal segments."""


class StoredJointsError(SefarError, ValueError):
    """Stored joints are damaged, are not those that are needed, or do not have all clips."""


class MissingPosesError(SefarError, ValueError):
    """The stored row of a clip has no joints, because the clip could not be read when they were extracted."""


class Origin(NamedTuple):
    """What gave the joints. Joints of another origin are not the same.

    Attributes:
        estimator: name of the pose estimator; ``true:`` and a name for joints that are known, e.g. to a renderer.
        sha256: of the estimator's weights, or of a description of the joints.
    """

    estimator: str
    sha256: str


class JointSource(Protocol):
    """Gives the joints of clips."""

    @property
    def origin(self) -> Origin:
        """What gave them."""
        ...

    @property
    def reads_videos(self) -> bool:
        """Whether the files of the clips must exist."""
        ...

    def read(
        self, clips: Sequence[ClipKey], progress: bool = True, threads: int | None = None, title: str = ""
    ) -> tuple[dict[ClipKey, Joints], dict[ClipKey, Exception]]:
        """Load the joints of clips.

        Args:
            clips: files, or spans of them.
            progress: show a progress bar, if it takes long.
            threads: clips read at the same time; None for one per core.
            title: what the clips are, for the progress bar: the name of their list.

        Returns:
            The joints of each clip, and for each clip that has none the error.

        Raises:
            StoredJointsError, JointCacheError: the joints of clips cannot be had.
        """
        ...


def check_description(told: Mapping[str, Any], persons: int | None, file: Path, frames: int | None = None) -> Origin:
    """Check that stored joints are those that a model takes.

    Args:
        told: ``joints``, names of the joints; ``estimator`` and ``estimator_sha256``; ``shape``, if it is the same for
            all clips, (F,P,J,4).
        persons: number of persons that the model sees; None: not checked.
        file: where it was read, for messages.
        frames: number of frames that the model takes; None: not checked.

    Raises:
        StoredJointsError: they are not.
    """
    try:
        names = tuple(map(str, told["joints"]))
        origin = Origin(str(told["estimator"]), str(told["estimator_sha256"]))
        stored = int(told["shape"][1]) if "shape" in told else persons
        stored_frames = int(told["shape"][0]) if "shape" in told else frames
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise StoredJointsError(f"{file} has a damaged description of its joints: {error!r}; write it again") from error
    if names != JOINTS:
        raise StoredJointsError(
            f"{file} has the joints {', '.join(names)}, but this version of sefar-serve trains on {', '.join(JOINTS)}; "
            "write it again with this version"
        )
    if persons is not None and stored != persons:
        raise StoredJointsError(
            f"{file} has the joints of {stored} persons, but the model sees {persons}; set model.persons to {stored}"
        )
    if frames is not None and stored_frames is not None and stored_frames < frames:
        raise StoredJointsError(
            f"{file} has the joints of {stored_frames} frames of each clip, but the model takes {frames}; "
            f"extract the joints again with a model of {frames} frames, or train a model of {stored_frames}: set "
            "model.sample_frames"
        )
    return origin
