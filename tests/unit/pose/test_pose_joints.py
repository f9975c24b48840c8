"""The skeleton's constants agree with each other."""

from __future__ import annotations

from sefar_serve.pose import EDGES, JOINTS, MIRROR, PAIRS


def test_mirror_swaps_the_pairs_and_nothing_else() -> None:
    assert len(JOINTS) == len(set(JOINTS)) == 15
    assert [MIRROR[MIRROR[i]] for i in range(15)] == list(range(15))
    assert {(i, MIRROR[i]) for i in range(15) if i < MIRROR[i]} == set(PAIRS)
    assert [JOINTS[i] for i in range(15) if MIRROR[i] == i] == ["nose"]
    for left, right in PAIRS:
        assert JOINTS[left].removeprefix("left_") == JOINTS[right].removeprefix("right_")


def test_bones_hold_the_body_together_and_are_symmetrical() -> None:
    bones = {frozenset(edge) for edge in EDGES}
    assert {frozenset(MIRROR[joint] for joint in bone) for bone in bones} == bones
    reached = {1}
    for _ in JOINTS:
        reached |= {joint for bone in bones if bone & reached for joint in bone}
    assert reached == set(range(1, 15))
