"""The persons that a model of joints saw in a clip."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import PlainSerializer, PlainValidator, ValidationInfo

from sefar_client.base import Result, decoded, lists


def _shaped(value: Any, info: ValidationInfo) -> NDArray[np.float32] | None:
    """Nested lists; or base64, which has no shape of its own."""
    if not isinstance(value, str):
        return None if value is None else decoded(value)
    return decoded(value).reshape(*info.data["presence"].shape, len(info.data["joint_names"]), -1)


Presence = Annotated[NDArray[np.float32], PlainValidator(decoded), PlainSerializer(lists)]
Joints = Annotated[NDArray[np.float32] | None, PlainValidator(_shaped), PlainSerializer(lists)]


class PoseInfo(Result):
    """The P persons in the F frames that the model saw, the main person first; frames in the order of `clip.frames`.

    Attributes:
        estimator: name of the pose estimator.
        found: for each person, the share of the frames in which they were found.
        presence: float32 (F,P), how sure the estimator is that the person is there; 0 where the person was not found.
        joint_names: names of the J joints; None unless `poses` was set. So are the next two.
        joints: float32 (F,P,J,4): x, y, z in metres from the middle of the hips, and visibility in [0, 1].
            Interpolated where presence is 0.
        image: float32 (F,P,J,2): x, y in pixels of the upright picture, `clip.width` by `clip.height`.
    """

    estimator: str
    found: list[float]
    presence: Presence
    joint_names: list[str] | None = None
    joints: Joints = None
    image: Joints = None

    def __str__(self) -> str:
        frames = len(self.presence)
        counts = [round(share * frames) for share in self.found]
        if not any(counts):
            return f"nobody found in {frames} frames"
        first, *others = counts
        if not others:
            return f"person found in {first} of {frames} frames"
        return f"first person found in {first} of {frames} frames, second in {others[0]}"
