"""The normaliser and the stem of joints."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from stick_figures import figure, turned
from torch import Tensor

from sefar_serve.pose.joints import HIPS, NUMBER, SHOULDERS
from sefar_serve.sampling import Layout, Sampling, sample_indices
from sefar_training.export import export_untrained
from sefar_training.model import Architecture, PoseNormalizer, create_model
from sefar_training.model.motion import MotionSummary
from sefar_training.model.stem import PARENTS, JointStem

NORMALIZE = PoseNormalizer()


def clips(count: int = 3, persons: int = 2) -> Tensor:
    rng = np.random.default_rng(0)
    found = torch.from_numpy(np.stack([figure(rng, n % 2, 8, persons) for n in range(count)]))
    found[..., 3] = torch.rand(found.shape[:-1], generator=torch.Generator().manual_seed(0))
    return found


def test_place_size_and_direction_of_a_person_make_no_difference() -> None:
    given = clips()
    expected = NORMALIZE(given)
    moved = given.clone()
    moved[..., :3] *= 1.7
    moved[..., :3] += torch.randn(3, 8, 2, 1, 3, generator=torch.Generator().manual_seed(1))
    for angle in (0.5, 2.0, 3.1, -1.2):
        seen = torch.from_numpy(turned(moved.numpy(), angle))
        assert torch.allclose(NORMALIZE(seen), expected, atol=1e-4)


def test_hips_are_at_zero_torsos_have_length_one_and_the_main_person_faces_one_way() -> None:
    found = NORMALIZE(clips())
    hips = found[..., list(HIPS), :3].mean(dim=-2)
    assert hips.abs().max() < 1e-5
    torso = (found[..., list(SHOULDERS), :3].mean(dim=-2) - hips).norm(dim=-1)
    assert torso.mean(dim=1) == pytest.approx(torch.ones(3, 2), abs=0.05)
    across = found[:, :, 0, NUMBER["left_hip"], :3] - found[:, :, 0, NUMBER["right_hip"], :3]
    direction = across.mean(dim=1)
    assert (direction[:, 0] > 0.1).all()
    assert (direction[:, 2].abs() < 0.05 * direction[:, 0]).all()
    assert torch.equal(found[..., 3], clips()[..., 3])


def test_the_other_person_is_turned_as_the_main_person_is() -> None:
    given = clips()
    other = given.clone()
    other[:, :, 1] = torch.from_numpy(turned(given[:, :, 1].numpy(), 1.0))
    before, after = NORMALIZE(given), NORMALIZE(other)
    assert torch.equal(before[:, :, 0], after[:, :, 0])
    assert torch.allclose(torch.from_numpy(turned(before[:, :, 1].numpy(), 1.0)), after[:, :, 1], atol=1e-5)


def test_frames_seen_well_count_more() -> None:
    given = clips(1, 1)
    given[..., 3] = 1
    wrong = given.clone()
    wrong[:, :3, :, :, :3] *= 3
    wrong[:, :3, :, :, 3] = 0
    right = NORMALIZE(given)[:, 3:, ..., :3]
    assert torch.allclose(NORMALIZE(wrong)[:, 3:, ..., :3], right, atol=0.03)
    unseen = given.clone()
    unseen[..., 3] = 0
    assert torch.allclose(NORMALIZE(unseen)[..., :3], NORMALIZE(given)[..., :3], atol=1e-5)


def test_nobody_is_zero() -> None:
    assert not NORMALIZE(torch.zeros(2, 8, 2, 15, 4)).any()
    one = clips()
    one[:, :, 1] = 0
    found = NORMALIZE(one)
    assert found.isfinite().all() and not found[:, :, 1].any()
    lying = clips()
    lying[:, :, :, :, 1] = lying[:, :, :, :, :1].sum(-1)
    lying[..., 0] = lying[..., 2] = 0  # no direction to turn to
    assert NORMALIZE(lying).isfinite().all()


def test_tokens_are_joints_person_by_person() -> None:
    torch.manual_seed(0)
    stem = JointStem(8)
    given = torch.randn(5, 2, 15, 4)
    tokens = stem(given)
    assert tokens.shape == (5, 30, 8)
    assert torch.allclose(tokens[3, 15 + 4], given[3, 1, 4, :3] @ stem.weight_JCD[4] + stem.bias, atol=1e-6)


def test_bones_end_at_their_joints() -> None:
    assert PARENTS[NUMBER["left_elbow"]] == NUMBER["left_shoulder"]
    assert PARENTS[NUMBER["right_index"]] == NUMBER["right_wrist"]
    assert PARENTS[NUMBER["right_ankle"]] == NUMBER["right_knee"]
    stem = JointStem(8, bones=True)
    stem.weight_JCD.data[:, :3] = 0
    given = torch.randn(1, 1, 15, 4)
    moved = given.clone()
    moved[..., :3] += 2
    assert torch.allclose(stem(given), stem(moved), atol=1e-5)
    with pytest.raises(ValueError, match="bones belong to the stem joints, not to patch"):
        Architecture(dim=8, depth=1, heads=1, bones=True)


@pytest.mark.parametrize("layout", ["interleaved", "local"])
@pytest.mark.parametrize("frames", [(2, 2, 4), (4, 4, 8), (3,)])
def test_motion_is_told_in_the_order_of_time(frames: tuple[int, ...], layout: Layout) -> None:
    torch.manual_seed(0)
    sampling = Sampling(frames, layout)
    motion = MotionSummary(sampling, 16).eval()
    moments = torch.from_numpy(sample_indices(1000, sampling))
    line = torch.randn(1001, 1, 16)
    in_order = MotionSummary(Sampling((sampling.frames,)), 16).eval()
    in_order.load_state_dict(motion.state_dict())
    summary = motion(line[moments][None])
    assert summary.shape == (1, len(frames), 256)
    assert torch.allclose(summary.sum(dim=1), in_order(line[moments.sort().values][None])[:, 0], atol=1e-6)


def test_an_element_tells_of_its_own_frames_in_their_part_of_the_clip() -> None:
    motion = MotionSummary(Sampling((4, 4, 8)), 16).eval()
    summary = motion(torch.randn(2, 16, 3, 16)).detach().reshape(2, 3, 8, 32)
    first = Sampling((4, 4, 8))
    slots = {int(n) // 2 for n in sample_indices(16, first)[:4]}  # 16 frames in 8 slots
    assert {n for n in range(8) if summary[:, 0, n].any()} == slots


def test_joints_need_the_width_of_the_embedding() -> None:
    with pytest.raises(ValueError, match="the stem joints needs width 256, not 64"):
        Architecture(dim=64, depth=0, heads=1, stem="joints")


def test_visibility_is_not_seen() -> None:
    model = create_model("pose-tiny", 3, (4, 4, 8)).eval()
    given = NORMALIZE(clips(2, 1).repeat(1, 2, 1, 1, 1))
    hidden = given.clone()
    hidden[..., 3] = 0.5
    assert torch.equal(model(given).logits, model(hidden).logits)


@pytest.mark.parametrize("persons", [1, 2])
def test_models_of_joints_have_the_same_outputs(persons: int) -> None:
    model = create_model("pose-tiny", 7, (4, 4, 8), persons=persons).eval()
    out = model(NORMALIZE(clips(2, persons).repeat(1, 2, 1, 1, 1)))
    assert (out.logits.shape, out.embedding.shape, out.tokens.shape) == ((2, 7), (2, 256), (2, 3, model.backbone.dim))
    assert sum(p.numel() for p in model.parameters()) < 1e6


def test_an_untrained_model_of_joints_is_exported(tmp_path) -> None:
    report = export_untrained(tmp_path / "pose.onnx", ("a", "b"), stream="pose", persons=2)
    assert max(report.differences.values()) < 1e-3
