"""What pose estimation gives: the joints of each person in each frame, and how sure they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sefar_serve.pose.joints import JOINTS
from sefar_serve.pose.tracker import Track

SPARSE = 0.75
"""A person found in a smaller share of the frames than this gets a warning."""


@dataclass(frozen=True)
class Poses:
    """Joints of P persons in F frames, the main person first. J joints, in the order of `JOINTS`.

    Where a person is not found in a frame, the joints are interpolated between the nearest frames that have them,
    with visibility and presence 0. A person who is found in no frame is all zeros.

    Attributes:
        joints: float32 (F,P,J,4): x, y, z in metres and visibility in [0, 1]. The middle of the hips is at 0; x points
            to the right of the picture, y down, z away from the camera.
        image: float32 (F,P,J,2): x, y in pixels of the upright picture at its display size.
        presence: float32 (F,P), in [0, 1].
        detected: bool (F,P), False where the joints are interpolated or zero.
        estimator: name of what found them.
        estimator_sha256: of its weights.
        warnings: shown with the answer.
    """

    joints: NDArray[np.float32]
    image: NDArray[np.float32]
    presence: NDArray[np.float32]
    detected: NDArray[np.bool_]
    estimator: str
    estimator_sha256: str
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        """F."""
        return len(self.joints)

    @property
    def empty(self) -> bool:
        """Whether no person was found in any frame."""
        return not self.detected.any()


def make_poses(
    tracks: Sequence[Track],
    times: NDArray[np.float64],
    order: NDArray[np.int64],
    *,
    scale: float,
    estimator: str,
    estimator_sha256: str,
    dark: NDArray[np.bool_],
) -> Poses:
    """Lay tracks out as arrays.

    Args:
        tracks: of P persons, over the frames in order of time.
        times: float64 (N,), seconds of these frames.
        order: int64 (F,), for each frame of the result its number among them.
        scale: from pixels of these frames to pixels at display size.
        estimator: name of what found the joints.
        estimator_sha256: of its weights.
        dark: bool (F,), which frames of the result are too dark to trust what is found in them.
    """
    shape = (len(times), len(tracks), len(JOINTS))
    joints = np.zeros((*shape, 4), np.float32)
    image = np.zeros((*shape, 2), np.float32)
    presence = np.zeros(shape[:2], np.float32)
    detected = np.zeros(shape[:2], np.bool_)
    for person, track in enumerate(tracks):
        for frame, found in track.items():
            joints[frame, person, :, :3] = found.world
            joints[frame, person, :, 3] = found.visibility
            image[frame, person] = found.image * scale
            presence[frame, person] = found.presence
            detected[frame, person] = True
        if track:
            missing = ~detected[:, person]
            known = np.flatnonzero(detected[:, person])
            for values in (joints[:, person, :, :3], image[:, person]):
                values[missing] = _between(times[missing], times[known], values[known])
    return Poses(
        joints[order],
        image[order],
        presence[order],
        detected[order],
        estimator,
        estimator_sha256,
        _warnings(detected[order], int(dark.sum())),
    )


def _between(
    wanted: NDArray[np.float64], known: NDArray[np.float64], values: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Values (K,...) at `known` times, interpolated to the `wanted` ones; outside, the nearest."""
    columns = values.reshape(len(values), -1).T
    between = np.stack([np.interp(wanted, known, column) for column in columns], axis=1)
    return between.reshape(len(wanted), *values.shape[1:]).astype(np.float32)


def _warnings(detected: NDArray[np.bool_], dark: int) -> tuple[str, ...]:
    frames = len(detected)
    if not detected.any():
        return (f"no person found; {dark} of {frames} frames are dark" if dark else "no person found",)
    said = [f"{dark} of {frames} frames are dark; joints found in them may be wrong"] if dark else []
    for person, count in enumerate(detected.sum(axis=0).tolist()):
        who = "person" if person == 0 else f"{_ORDINALS.get(person, f'{person + 1}th')} person"
        if count == 0:
            said.append(f"no {who} found")
        elif count < SPARSE * frames:
            said.append(f"no {who} in {frames - count} of {frames} frames")
    return tuple(said)


_ORDINALS = {1: "second", 2: "third"}
