"""ST-GCN++: the graph, shapes, and what it can tell apart."""

from __future__ import annotations

import pytest
import torch

from benchmarks.pose_study.stgcn import BONES, DILATIONS, StGcn, TemporalConvolution, adjacency, distances
from sefar_serve.pose.joints import HIPS, JOINTS, MIRROR, NUMBER

SELF, INWARD, OUTWARD = 0, 1, 2


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Weights and clips are the same in every run."""
    torch.manual_seed(0)


def test_distances_count_bones_from_the_hips() -> None:
    far = dict(zip(JOINTS, distances(), strict=True))
    assert [far[name] for name in ("left_hip", "right_knee", "left_ankle", "left_shoulder", "nose")] == [0, 1, 2, 1, 2]
    assert far["right_index"] == 4


def test_every_bone_is_in_the_graphs_and_nothing_else() -> None:
    graphs = adjacency() > 0
    assert graphs[SELF].equal(torch.eye(len(JOINTS)) > 0)
    between = {(a, b) for a, b in (graphs[INWARD] | graphs[OUTWARD]).nonzero().tolist()}
    assert between == {pair for a, b in BONES for pair in ((a, b), (b, a))}


def test_inward_and_outward_are_opposites_and_symmetric_bones_are_in_both() -> None:
    graphs = adjacency() > 0
    assert graphs[INWARD].equal(graphs[OUTWARD].T)
    wrist, elbow = NUMBER["left_wrist"], NUMBER["left_elbow"]
    assert graphs[INWARD, wrist, elbow] and not graphs[OUTWARD, wrist, elbow]
    assert (graphs[INWARD] & graphs[OUTWARD])[HIPS]


def test_what_a_joint_receives_sums_to_one_or_nothing() -> None:
    sums = adjacency().sum(dim=1)
    assert torch.isin(sums.round(decimals=5), torch.tensor([0.0, 1.0])).all()
    # No bone leads outwards from a fingertip, so none leads inwards to it.
    assert sums[INWARD, NUMBER["left_index"]] == 0


def test_left_and_right_have_the_same_graph() -> None:
    graphs, order = adjacency(), list(MIRROR)
    assert graphs[:, order][:, :, order].equal(graphs)


def test_shapes_and_persons() -> None:
    model = StGcn(7).eval()
    one = torch.randn(3, 16, 1, len(JOINTS), 4)
    out = model(one)
    assert out.logits.shape == (3, 7)
    assert model.blocks(torch.randn(2, 4, 16, len(JOINTS))).shape == (2, 64, 8, len(JOINTS))
    torch.testing.assert_close(model(one.repeat(1, 1, 2, 1, 1)).logits, out.logits)


def test_a_temporal_convolution_keeps_its_width_and_sees_as_far_as_its_dilation() -> None:
    layer = TemporalConvolution(20, stride=2).eval()
    # Many clips, so that no branch is silent for all of them.
    x = torch.randn(64, 20, 16, 2, requires_grad=True)
    out = layer(x)
    assert out.shape == (64, 20, 8, 2)
    out[:, :, 4, 0].sum().backward()
    assert x.grad is not None
    seen = x.grad.abs().sum(dim=(0, 1)).nonzero()
    assert set(seen[:, 1].tolist()) == {0}
    assert {8 - max(DILATIONS), 8, 8 + max(DILATIONS)} <= set(seen[:, 0].tolist())


def test_every_parameter_learns_and_the_graph_too() -> None:
    model = StGcn(3)
    model(torch.randn(4, 16, 1, len(JOINTS), 4)).logits.square().sum().backward()
    without = [name for name, each in model.named_parameters() if each.grad is None or not each.grad.any()]
    assert not without


def test_the_order_of_frames_matters() -> None:
    model, joints = StGcn(3).eval(), torch.randn(2, 16, 1, len(JOINTS), 4)
    assert not torch.allclose(model(joints).logits, model(joints.flip(1)).logits, atol=1e-4)
