"""The pose pretext: a few minutes of regressing the pose of single frames, to start the backbone from.

The renderer of SynthGym knows the pose of every frame, so this costs no labels. A backbone that
sees poses learns actions from far fewer clips than one that starts from nothing.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from sefar_serve.errors import SefarError

from ..loop import Batch, Metrics
from ..model import FrameNormalizer, SefarModel


class PoseFileError(SefarError, ValueError):
    """The pose targets do not fit the list of clips or the wanted columns."""


class PoseRegressor(nn.Module):
    """A linear map from the backbone's per-frame features to pose values.

    Args:
        model: the model whose backbone is trained; its head takes no part.
        targets: number of pose values P.
    """

    def __init__(self, model: SefarModel, targets: int) -> None:
        super().__init__()
        self.backbone = model.backbone
        self.linear = nn.Linear(model.backbone.dim, targets)

    def forward(self, frames_BFCHW: Tensor) -> Tensor:
        """Predict the pose of each frame, (B,F,P)."""
        return self.linear(self.backbone.frame_features(frames_BFCHW))


class PretextStep(nn.Module):
    """Smooth L1 between predicted and rendered poses.

    Args:
        regressor: the model trained.
        normalizer: uint8 frames to the model's input.
    """

    def __init__(self, regressor: PoseRegressor, normalizer: FrameNormalizer) -> None:
        super().__init__()
        self.regressor = regressor
        self.normalizer = normalizer

    def forward(self, batch: Batch, epoch: int) -> tuple[Tensor, Metrics]:
        """Loss of one batch and the share of the poses' variance it explains (1 is perfect)."""
        predicted = self.regressor(self.normalizer(batch["frames"])).float()
        pose = batch["pose"].float()
        loss = F.smooth_l1_loss(predicted, pose, beta=0.1)
        error = (predicted - pose).square().mean(dim=(0, 1)).sum()
        explained = 1 - error.detach() / pose.var(dim=(0, 1)).sum().clamp_min(1e-6)
        return loss, {"explained": explained}

    def updated(self, steps: int) -> None:
        """Nothing follows the optimiser's steps."""


def read_poses(file: Path, names: tuple[str, ...], targets: tuple[str, ...]) -> dict[str, NDArray[np.float32]]:
    """Read per-frame pose targets.

    Args:
        file: npz of one float (T,P) array a clip, under the clip's name in the lists.
        names: names of the P columns.
        targets: columns wanted; empty for all.

    Returns:
        For each clip its targets, float32 (T, wanted).

    Raises:
        PoseFileError: if a wanted column does not exist or an array has another number of columns.
    """
    unknown = [t for t in targets if t not in names]
    if unknown:
        raise PoseFileError(f"no pose column {', '.join(unknown)}; there are {', '.join(names)}")
    columns = [names.index(t) for t in targets or names]
    poses = {}
    with np.load(file) as arrays:
        for clip in arrays.files:
            pose = arrays[clip]
            if pose.ndim != 2 or pose.shape[1] != len(names):
                raise PoseFileError(f"{file}: {clip} has shape {pose.shape}, expected (frames, {len(names)})")
            poses[clip] = pose[:, columns].astype(np.float32)
    return poses
