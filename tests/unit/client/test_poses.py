"""Poses in results: arrays from lists and from base64, and a line about the persons for notebooks."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from test_results import CLIP, LABEL

from sefar_client import Classification, PoseInfo
from sefar_client.clips import Usage

JOINTS = np.arange(16 * 2 * 3 * 4, dtype=np.float32).reshape(16, 2, 3, 4)
NAMES = ["nose", "left_hip", "right_hip"]


def info(*found: float, **more: object) -> PoseInfo:
    presence = np.zeros((16, len(found))).tolist()
    return PoseInfo.model_validate({"estimator": "fake", "found": found, "presence": presence, **more})


def test_lists_and_base64_give_the_same_arrays() -> None:
    listed = info(1, 0, joint_names=NAMES, joints=JOINTS.tolist(), image=JOINTS[..., :2].tolist())
    packed = {
        "joints": base64.b64encode(JOINTS.tobytes()).decode(),
        "image": base64.b64encode(JOINTS[..., :2].tobytes()).decode(),
    }
    decoded = info(1, 0, joint_names=NAMES, **packed)
    assert listed == decoded
    assert decoded.joints is not None and decoded.image is not None
    np.testing.assert_array_equal(decoded.joints, JOINTS)
    assert decoded.joints.dtype == np.float32
    assert decoded.image.shape == (16, 2, 3, 2)
    assert PoseInfo.model_validate(decoded.model_dump(mode="json")) == decoded
    assert info(1).joints is None


@pytest.mark.parametrize(
    ("found", "line"),
    [
        ((0.875,), "person found in 14 of 16 frames"),
        ((1.0, 0.1875), "first person found in 16 of 16 frames, second in 3"),
        ((0.0, 0.0), "nobody found in 16 frames"),
    ],
)
def test_notebooks_say_in_how_many_frames_persons_were_found(found: tuple[float, ...], line: str) -> None:
    clip = CLIP.model_copy(update={"pose": info(*found)})
    result = Classification(
        object="classification",
        index=0,
        name="a.mp4",
        clip_id=None,
        labels=[LABEL],
        reliability=0.5,
        clip=clip,
        timeline=None,
        model="m",
        version="1",
        usage=Usage(prompt_tokens=8, total_tokens=8, clips=1),
    )
    assert line in result._repr_html_()
    assert ("#b00020" in result._repr_html_()) == (not any(found))
    assert "found in" not in result.model_copy(update={"clip": CLIP})._repr_html_()
