"""The pose pretext: pretrain the backbone for a few minutes by regressing the pose of each frame.

SynthGym's renderer knows the pose of every frame, so this needs no labels. A backbone that recognises poses learns
actions from far fewer clips than one that starts from scratch.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from sefar_serve.errors import SefarError

from ..data import Source, TrainingClips
from ..inputs import FrameInputs
from ..loop import Batch, Metrics
from ..model import FrameNormalizer, SefarModel
from ..recipe import RecipeError
from ..run_folder import FINAL
from ..task import Setup, Task
from .dataset import POSE_COLUMNS
from .render import POSE_NAMES


class PoseFileError(SefarError, ValueError):
    """The file of poses lacks clips of the list or requested columns."""


class PoseRegressor(nn.Module):
    """A linear map from the backbone's per-frame features to pose values.

    Args:
        model: the model whose backbone is trained; its head is not used.
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
    """Smooth L1 loss between predicted and rendered poses.

    Args:
        regressor: the model to train.
        normalizer: turns uint8 frames into the model's input.
    """

    def __init__(self, regressor: PoseRegressor, normalizer: FrameNormalizer) -> None:
        super().__init__()
        self.regressor = regressor
        self.normalizer = normalizer

    def forward(self, batch: Batch, epoch: int) -> tuple[Tensor, Metrics]:
        """Loss of one batch, and the share of the poses' variance that the predictions explain (1 is perfect)."""
        predicted = self.regressor(self.normalizer(batch["inputs"])).float()
        pose = batch["pose"].float()
        loss = F.smooth_l1_loss(predicted, pose, beta=0.1)
        error = (predicted - pose).square().mean(dim=(0, 1)).sum()
        explained = 1 - error.detach() / pose.var(dim=(0, 1)).sum().clamp_min(1e-6)
        return loss, {"explained": explained}

    def updated(self, steps: int) -> None:
        """Do nothing after the optimiser's steps."""


def pose_pretext(setup: Setup) -> Task:
    """Set up the task `pretext`: regress the poses in `data.poses` from the frames of the training clips.

    Raises:
        RecipeError: the recipe has no file of poses, or its stream is not ``rgb``.
        PoseFileError: that file lacks a clip or a column.
        ListFileError, BrokenClipsError: the list or its clips cannot be read.
    """
    config, data = setup.config, setup.config.data
    if data.poses is None:
        raise RecipeError("task pretext needs data.poses, the file of pose targets")
    inputs = setup.inputs
    if not isinstance(inputs, FrameInputs):
        raise RecipeError(f"task pretext learns from frames; set model.stream to rgb, not {config.model.stream}")
    store = inputs.open(data.train)
    poses = read_poses(data.root / data.poses, config.pretext.targets)
    without = next((entry.name for entry in store.entries if entry.name not in poses), None)
    if without is not None:
        raise PoseFileError(f"{data.root / data.poses} has no pose for {without} of {data.train}")
    clips = TrainingClips(store, config.model.sampling, inputs.weak, config.seed, poses)
    targets = next(iter(poses.values())).shape[1]
    step = PretextStep(PoseRegressor(setup.model, targets), inputs.normalizer)
    return Task(step, [Source(clips, config.optim.batch_size)], {FINAL: setup.model}, classifies=False)


def read_poses(file: Path, targets: tuple[str, ...] = ()) -> dict[str, NDArray[np.float32]]:
    """Read the poses that `write_dataset` wrote for the clips of a split.

    Args:
        file: npz file with one float array (T,P) per clip, under the clip's name in the lists, and the names of the P
            columns under `POSE_COLUMNS`. Older files have no names; their columns are `POSE_NAMES`.
        targets: names of the columns to read; empty for all.

    Returns:
        For each clip its targets, float32 (T, columns).

    Raises:
        PoseFileError: a requested column does not exist, or an array has the wrong number of columns.
    """
    poses = {}
    with np.load(file) as arrays:
        names = tuple(arrays[POSE_COLUMNS].tolist()) if POSE_COLUMNS in arrays else POSE_NAMES
        unknown = [target for target in targets if target not in names]
        if unknown:
            raise PoseFileError(f"{file} has no pose column {', '.join(unknown)}; it has {', '.join(names)}")
        columns = [names.index(target) for target in targets or names]
        for clip in arrays.files:
            if clip == POSE_COLUMNS:
                continue
            pose = arrays[clip]
            if pose.ndim != 2 or pose.shape[1] != len(names):
                raise PoseFileError(f"{file}: {clip} has shape {pose.shape}, expected (frames, {len(names)})")
            poses[clip] = pose[:, columns].astype(np.float32)
    return poses
