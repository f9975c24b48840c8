"""Views of a batch of normalised joints: mirrored, scaled, turned, with noise, with joints missing.

They run on whole batches in the training step, after normalisation, which would undo them. Each step seeds torch, so
they depend only on the seed and the step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from sefar_serve.pose.joints import MIRROR

View = Callable[[Tensor], Tensor]


def unchanged(inputs: Tensor) -> Tensor:
    """The view that changes nothing."""
    return inputs


class InputViews(NamedTuple):
    """What a training step does to normalised inputs. Views of frames are made before, see `WeakView`."""

    labelled: View = unchanged
    weak: View = unchanged
    strong: View = unchanged


@dataclass(frozen=True)
class JointView:
    """A random view of joints. Draws are the same for all frames and persons of a clip, if not said otherwise.

    Attributes:
        flip: probability that left and right are exchanged.
        scale: sizes are multiplied by a number in 1 ± scale.
        stretch: sizes along each axis are multiplied by a number in 1 ± stretch.
        tilt: largest turn about x and about z, degrees.
        yaw: largest turn about y, degrees.
        noise: standard deviation of each coordinate of each joint in each frame, torso lengths.
        body: standard deviation of each coordinate of each joint, the same in all frames, torso lengths: other bodies.
        drop: probability that a joint of a person is missing in all frames.
        drop_frames: probability that a joint of a person is missing in a frame.
    """

    flip: float = 0.0
    scale: float = 0.0
    stretch: float = 0.0
    tilt: float = 0.0
    yaw: float = 0.0
    noise: float = 0.0
    body: float = 0.0
    drop: float = 0.0
    drop_frames: float = 0.0

    def __call__(self, joints_BFPJC: Tensor) -> Tensor:
        """Draw a view of each clip, float (B,F,P,J,4). A missing joint is 0 and invisible, as is one of no person."""
        b, f, p, j, _ = joints_BFPJC.shape
        device = joints_BFPJC.device
        flipped = torch.rand(b, 1, 1, 1, 1, device=device) < self.flip
        joints = torch.where(flipped, mirrored(joints_BFPJC), joints_BFPJC)
        place, seen = joints[..., :3], joints[..., 3:]
        there = (joints != 0).any(dim=-1, keepdim=True)

        sizes_B3 = _within(self.scale, b, 1, device) * _within(self.stretch, b, 3, device)
        turned = torch.matmul(place, self._turns(b, device)[:, None, None].transpose(-1, -2)).float()
        moved = turned * sizes_B3[:, None, None, None] + self.noise * torch.randn(place.shape, device=device)
        moved = moved + self.body * torch.randn(b, 1, p, j, 3, device=device)
        kept = torch.rand(b, 1, p, j, 1, device=device) >= self.drop
        kept = kept & (torch.rand(b, f, p, j, 1, device=device) >= self.drop_frames)
        return torch.cat([moved, seen], dim=-1) * (there & kept)

    def _turns(self, clips: int, device: torch.device) -> Tensor:
        """Rotation matrices (B,3,3)."""
        largest = torch.tensor([self.tilt, self.yaw, self.tilt], device=device) * (math.pi / 180)
        x, y, z = ((2 * torch.rand(clips, 3, device=device) - 1) * largest).unbind(1)
        return _turn(z, 0, 1) @ _turn(y, 2, 0) @ _turn(x, 1, 2)


def mirrored(joints: Tensor) -> Tensor:
    """Exchange left and right: swap the joints (...,J,4) and negate x."""
    swapped = joints[..., list(MIRROR), :]
    return torch.cat([-swapped[..., :1], swapped[..., 1:]], dim=-1)


def _within(share: float, clips: int, columns: int, device: torch.device) -> Tensor:
    """Numbers in 1 ± share, (B,columns)."""
    return 1 + share * (2 * torch.rand(clips, columns, device=device) - 1)


def _turn(angle_B: Tensor, first: int, second: int) -> Tensor:
    """Rotations (B,3,3) in the plane of two axes, from the first to the second."""
    matrix = torch.eye(3, device=angle_B.device).repeat(len(angle_B), 1, 1)
    matrix[:, first, first] = matrix[:, second, second] = angle_B.cos()
    matrix[:, second, first], matrix[:, first, second] = angle_B.sin(), -angle_B.sin()
    return matrix
