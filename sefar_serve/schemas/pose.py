"""The JSON of poses: how often persons were found in a clip and, if requested, their joints."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from sefar_serve.pose import JOINTS, Poses

Joints = list[list[list[list[float]]]] | str
"""Numbers by frame, person, joint and coordinate; or base64 of little-endian float32 in the same order."""


class PoseInfo(BaseModel):
    """The persons in the frames that the model saw, the main person first; frames in the order of `clip.frames`."""

    estimator: str = Field(description="name of the pose estimator")
    found: list[float] = Field(description="for each person, the share of the frames in which they were found")
    presence: list[list[float]] = Field(
        description="for each frame and person, how sure the estimator is that the person is there, in [0, 1]; 0 where "
        "the person was not found"
    )
    joint_names: list[str] | None = Field(None, description="names of the joints, if poses is set")
    joints: Joints | None = Field(
        None,
        description="(frames, persons, joints, 4): x, y, z in metres from the middle of the hips, and visibility in "
        "[0, 1], if poses is set; interpolated where presence is 0",
    )
    image: Joints | None = Field(
        None,
        description="(frames, persons, joints, 2): x, y in pixels of the upright picture, `clip.width` by "
        "`clip.height`, if poses is set",
    )

    @classmethod
    def of(cls, poses: Poses, *, joints: bool = False, as_base64: bool = False) -> PoseInfo:
        """Convert poses.

        Args:
            poses: of the model's frames.
            joints: whether to include the joints.
            as_base64: whether joints are base64 instead of lists.
        """
        info = cls(
            estimator=poses.estimator,
            found=poses.detected.mean(axis=0).tolist(),
            presence=poses.presence.tolist(),
        )
        if not joints:
            return info
        arrays = {"joints": _numbers(poses.joints, as_base64), "image": _numbers(poses.image, as_base64)}
        return info.model_copy(update={"joint_names": list(JOINTS), **arrays})

    def without_joints(self) -> PoseInfo:
        """The same, as it is if joints are not requested."""
        return self.model_copy(update={"joint_names": None, "joints": None, "image": None})


def _numbers(values: NDArray[np.float32], as_base64: bool) -> Any:
    if as_base64:
        return base64.b64encode(values.astype("<f4").tobytes()).decode("ascii")
    return values.tolist()
