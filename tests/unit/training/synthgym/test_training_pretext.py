from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sefar_training.model import FrameNormalizer
from sefar_training.synthgym import POSE_NAMES
from sefar_training.synthgym.dataset import POSE_COLUMNS
from sefar_training.synthgym.pretext import PoseFileError, PoseRegressor, PretextStep, read_poses


@pytest.fixture
def pose_file(tmp_path: Path) -> Path:
    file = tmp_path / "train.npz"
    poses = {"videos/train/a.mp4": np.arange(6, dtype=np.float16).reshape(2, 3)}
    np.savez(file, **{POSE_COLUMNS: np.array(["x", "y", "z"])}, **poses)
    return file


def test_columns_are_chosen_by_name_and_in_order(pose_file: Path) -> None:
    poses = read_poses(pose_file, ("z", "x"))
    assert poses["videos/train/a.mp4"].tolist() == [[2, 0], [5, 3]]
    assert poses["videos/train/a.mp4"].dtype == np.float32
    assert read_poses(pose_file)["videos/train/a.mp4"].shape == (2, 3)


def test_poses_that_do_not_fit_are_named(pose_file: Path) -> None:
    with pytest.raises(PoseFileError, match=r"train\.npz has no pose column w; it has x, y, z"):
        read_poses(pose_file, ("w",))
    np.savez(pose_file, **{POSE_COLUMNS: np.array(["x", "y"]), "a.mp4": np.zeros((2, 3))})
    with pytest.raises(PoseFileError, match=r"shape \(2, 3\), expected \(frames, 2\)"):
        read_poses(pose_file)


def test_files_written_before_columns_had_names_are_read(tmp_path: Path) -> None:
    poses = np.arange(2 * len(POSE_NAMES), dtype=np.float16).reshape(2, -1)
    np.savez(tmp_path / "old.npz", **{"a.mp4": poses})
    assert read_poses(tmp_path / "old.npz", ("up_y",))["a.mp4"].tolist() == poses[:, 1:2].tolist()


def test_learns_the_pose_of_each_frame_and_leaves_the_head_alone(small_model) -> None:
    model = small_model(live=False)
    head = {k: v.clone() for k, v in model.head.state_dict().items()}
    regressor = PoseRegressor(model, 2)
    step = PretextStep(regressor, FrameNormalizer((0.45,) * 3, (0.225,) * 3))
    generator = torch.Generator().manual_seed(0)
    pose = torch.rand(6, 8, 2, generator=generator)
    frames = torch.zeros(6, 8, 32, 32, 3, dtype=torch.uint8)
    frames[:, :, :16] = (pose[..., 0] * 255).byte()[..., None, None, None]
    frames[:, :, 16:] = (pose[..., 1] * 255).byte()[..., None, None, None]
    optimizer = torch.optim.AdamW(regressor.parameters(), 3e-3)
    for _ in range(150):
        loss, metrics = step({"inputs": frames, "pose": pose}, epoch=0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert metrics["explained"] > 0.5  # guessing the mean explains 0
    assert all(torch.equal(v, head[k]) for k, v in model.head.state_dict().items())
