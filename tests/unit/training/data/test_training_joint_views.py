"""Views of joints."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from stick_figures import figure
from torch import Tensor

from sefar_serve.pose.joints import MIRROR, NUMBER
from sefar_training.data import JointView
from sefar_training.model import PoseNormalizer


def clips(count: int = 64) -> Tensor:
    rng = np.random.default_rng(0)
    found = torch.from_numpy(np.stack([figure(rng, n % 2, 8, 2) for n in range(count)]))
    found[:, :, 1] = 0
    return PoseNormalizer()(found)


def view(given: Tensor, **strengths: Any) -> Tensor:
    torch.manual_seed(0)
    return JointView(**strengths)(given)


def test_without_strengths_nothing_changes() -> None:
    assert torch.allclose(view(clips()), clips())


def test_left_and_right_are_exchanged_in_half_of_the_clips() -> None:
    given = clips()
    found = view(given, flip=0.5)
    other = given[..., list(MIRROR), :] * torch.tensor([-1, 1, 1, 1])
    same = (found == given).flatten(1).all(dim=1)
    assert 16 < same.sum() < 48
    assert torch.equal(found[~same], other[~same])
    # A raised right arm is a raised left arm now, on the other side.
    assert torch.equal(found[~same][..., NUMBER["left_wrist"], 1], given[~same][..., NUMBER["right_wrist"], 1])


def test_turns_keep_lengths_and_the_vertical_axis() -> None:
    given = clips()
    turned = view(given, yaw=40)
    assert torch.allclose(turned[..., 1], given[..., 1], atol=1e-6)
    assert torch.allclose(turned[..., :3].norm(dim=-1), given[..., :3].norm(dim=-1), atol=1e-5)
    cos = (turned[..., [0, 2]] * given[..., [0, 2]]).sum(-1) / given[..., [0, 2]].square().sum(-1).clamp_min(1e-9)
    angle = cos[:, 0, 0, NUMBER["left_hip"]].clamp(-1, 1).acos().rad2deg()
    assert 30 < angle.max() <= 40 and angle.min() < 10
    tilted = view(given, tilt=20)
    assert torch.allclose(tilted[..., :3].norm(dim=-1), given[..., :3].norm(dim=-1), atol=1e-5)
    assert not torch.allclose(tilted[..., 1], given[..., 1], atol=0.1)


def test_scale_is_one_number_a_clip_and_stretch_three() -> None:
    given = clips()
    where = given[..., :3].abs() > 0.1
    for strengths, columns in [({"scale": 0.3}, 1), ({"stretch": 0.3}, 3)]:
        ratio = (view(given, **strengths)[..., :3] / given[..., :3]).where(where, torch.nan)
        by_axis = ratio.flatten(1, 3).nanmean(dim=1)
        assert torch.allclose(
            ratio.nan_to_num(), by_axis[:, None, None, None].where(where, torch.tensor(0.0)), atol=1e-4
        )
        assert 0.7 <= by_axis.min() < 0.8 and 1.2 < by_axis.max() <= 1.3
        assert (by_axis.std(dim=1) < 1e-4).all() == (columns == 1)


def test_noise_and_missing_joints_leave_absent_persons_alone() -> None:
    given = clips()
    noisy = view(given, noise=0.05)
    change = (noisy - given)[:, :, 0, :, :3]
    assert change.std().item() == pytest.approx(0.05, rel=0.05)
    assert not noisy[:, :, 1].any() and torch.equal(noisy[..., 3], given[..., 3])
    gone = ~view(given, drop=0.3).any(dim=-1)[:, :, 0]
    assert torch.equal(gone.all(dim=1), gone.any(dim=1)), "in all frames or in none"
    assert gone.float().mean().item() == pytest.approx(0.3, abs=0.05)
    single = ~view(given, drop_frames=0.3).any(dim=-1)[:, :, 0]
    assert single.float().mean().item() == pytest.approx(0.3, abs=0.05)
    assert single.any(dim=1).float().mean() > 0.8


def test_views_are_the_same_under_the_same_seed_and_in_mixed_precision() -> None:
    strengths = {"flip": 0.5, "scale": 0.1, "stretch": 0.1, "tilt": 9, "yaw": 9, "noise": 0.1, "drop": 0.1}
    assert torch.equal(view(clips(), **strengths), view(clips(), **strengths))
    with torch.autocast("cpu", torch.bfloat16):
        found = view(clips(), **strengths)
    assert found.dtype == torch.float32
    assert torch.allclose(found, view(clips(), **strengths), atol=0.05)
