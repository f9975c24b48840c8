"""From what a clip holds to what the model sees, inside the graph: colours of frames, coordinates of joints."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sefar_serve.pose.joints import HIPS, SHOULDERS


class FrameNormalizer(nn.Module):
    """Turns decoded frames into the model's input: uint8 (B,F,H,W,3) to normalised float (B,F,3,H,W).

    Args:
        mean: per RGB channel in [0, 1]; subtracted.
        std: per RGB channel in [0, 1]; divided by.
    """

    def __init__(self, mean: tuple[float, float, float], std: tuple[float, float, float]) -> None:
        super().__init__()
        scale, shift = 1 / (255 * torch.tensor(std)), -torch.tensor(mean) / torch.tensor(std)
        self.register_buffer("scale", scale[:, None, None], persistent=False)
        self.register_buffer("shift", shift[:, None, None], persistent=False)

    def forward(self, frames_BFHWC: Tensor) -> Tensor:
        """Normalise a batch of clips."""
        # Not made contiguous: the frames' own memory order is faster for the convolutions that follow.
        return frames_BFHWC.permute(0, 1, 4, 2, 3).float() * self.scale + self.shift


class PoseNormalizer(nn.Module):
    """Makes joints independent of where a person stands, how large they are, and where the camera is.

    Float (B,F,P,J,4), as in `sefar_serve.pose.Poses.joints`, to the same shape: the middle of the hips is at 0 in every
    frame, the mean length of the torso over the clip is 1, and the clip is turned about the vertical axis so that the
    main person's left-right line lies along x on average. The other persons are turned by the same angle. Frames in
    which shoulders and hips are seen well count more in both means. Persons who are not there stay zero.
    """

    def forward(self, joints_BFPJC: Tensor) -> Tensor:
        """Normalise a batch of clips; visibility is not changed."""
        place, seen = joints_BFPJC[..., :3], joints_BFPJC[..., 3]
        left_shoulder, right_shoulder = (place[..., joint, :] for joint in SHOULDERS)
        left_hip, right_hip = (place[..., joint, :] for joint in HIPS)
        centre = (left_hip + right_hip) / 2
        torso = _length((left_shoulder + right_shoulder) / 2 - centre)
        # Where nothing is visible, e.g. in clips of interpolated joints only, all frames count the same.
        sure = sum(seen[..., joint] for joint in (*SHOULDERS, *HIPS)) + LEAST_WEIGHT
        weight_BFP = sure * (torso > SHORTEST)
        total = weight_BFP.sum(dim=1)
        size_BP = (weight_BFP * torso).sum(dim=1) / total.clamp_min(LEAST_WEIGHT / 2)
        size_BP = torch.where(total > 0, size_BP, torch.ones_like(size_BP))
        placed = (place - centre[..., None, :]) / size_BP[:, None, :, None, None]

        across_BF3 = (left_shoulder - right_shoulder + left_hip - right_hip)[:, :, 0]
        x, z = across_BF3[..., 0], across_BF3[..., 2]
        counted = sure[:, :, 0] / torch.sqrt(x * x + z * z).clamp_min(SHORTEST)
        x_B, z_B = (counted * x).mean(dim=1), (counted * z).mean(dim=1)
        long = torch.sqrt(x_B * x_B + z_B * z_B)
        known = long > SHORTEST
        cos = torch.where(known, x_B / long.clamp_min(SHORTEST), torch.ones_like(long))[:, None, None, None]
        sin = torch.where(known, z_B / long.clamp_min(SHORTEST), torch.zeros_like(long))[:, None, None, None]
        x, y, z = placed[..., 0], placed[..., 1], placed[..., 2]
        return torch.stack([cos * x + sin * z, y, cos * z - sin * x, seen], dim=-1)


LEAST_WEIGHT = 4e-3
"""Weight in the means of a frame whose shoulders and hips are all invisible; if all are visible, it is 4 more."""

SHORTEST = 1e-4
"""Metres. Shorter lines have no direction."""


def _length(vector: Tensor) -> Tensor:
    return vector.square().sum(dim=-1).sqrt()


def create_normalizer(
    stream: str, mean: tuple[float, float, float] = (0.45,) * 3, std: tuple[float, float, float] = (0.225,) * 3
) -> FrameNormalizer | PoseNormalizer:
    """The normaliser of a stream; mean and std, per RGB channel in [0, 1], are only for ``rgb``."""
    return PoseNormalizer() if stream == "pose" else FrameNormalizer(mean, std)
