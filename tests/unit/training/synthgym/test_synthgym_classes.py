"""The table of classes, and that each motion does what its class says."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from sefar_training.captions import caption, label_captions
from sefar_training.synthgym import CLASSES, ActionClass
from sefar_training.synthgym.classes import action_class
from sefar_training.synthgym.motion import motion

EACH = pytest.mark.parametrize("action", CLASSES, ids=lambda action: action.name)
PHASE = np.linspace(0.0, 1.0, 81)


def test_there_are_enough_classes_and_every_name_and_number_is_unique() -> None:
    assert 30 <= len(CLASSES) <= 36
    assert len({action.name for action in CLASSES}) == len(CLASSES)
    assert [action.index for action in CLASSES] == list(range(len(CLASSES)))
    assert {action.event for action in CLASSES} == {"FX", "UB", "BB"}


@EACH
def test_names_say_what_the_attributes_say(action: ActionClass) -> None:
    attributes = action.attributes
    assert action.name.startswith(f"({attributes['event']}) ")
    for direction in ("forward", "backward"):
        assert (direction in action.name) == (attributes["direction"] == direction)
    assert ("double salto" in action.name) == (attributes["saltos"] == 2)
    assert ("salto" in action.name) == (attributes["saltos"] > 0)
    assert (f"{action.twists:g} turn" in action.name) == (attributes["twists"] > 0)


@EACH
def test_opposites_differ_in_direction_only_and_point_at_each_other(action: ActionClass) -> None:
    if action.direction == "none":
        assert action.opposite is None
        return
    assert action.opposite is not None
    other = action_class(action.opposite)
    assert other.opposite == action.name
    assert {action.direction, other.direction} == {"forward", "backward"}
    assert action.attributes | {"direction": ""} == other.attributes | {"direction": ""}


def test_most_classes_come_in_pairs() -> None:
    assert Counter(action.direction for action in CLASSES)["forward"] >= 10


@EACH
def test_the_body_turns_as_often_as_the_class_says(action: ActionClass) -> None:
    moved = motion(action.as_forward, PHASE)
    circles = action.saltos or (1 if action.family == "giant" else 0)
    assert np.ptp(moved.somersault) == pytest.approx(2 * np.pi * circles, abs=1e-9)
    assert moved.somersault[-1] - moved.somersault[0] == pytest.approx(2 * np.pi * circles, abs=1e-9)
    assert moved.twist[-1] - moved.twist[0] == pytest.approx(2 * np.pi * action.twists, abs=1e-9)


@EACH
def test_timing_is_symmetric_so_that_only_the_rotation_tells_the_direction(action: ActionClass) -> None:
    # Mid-points, as clips are sampled: none falls on take-off itself, where the feet change over.
    moved = motion(action.as_forward, (np.arange(80) + 0.5) / 80)
    for name in ("lift", "hip", "spread", "knee", "arm", "elbow", "grounded"):
        values = getattr(moved, name)
        np.testing.assert_allclose(values, values[::-1], atol=1e-9, err_msg=name)
    for name in ("somersault", "twist", "travel"):
        steps = np.diff(getattr(moved, name))
        np.testing.assert_allclose(steps, steps[::-1], atol=1e-9, err_msg=name)


def test_positions_bend_the_body_as_their_names_say() -> None:
    middle = {action.name: motion(action.as_forward, np.array([0.5])) for action in CLASSES}

    def at(name: str, joint: str) -> float:
        return float(np.degrees(getattr(middle[name], joint)).max())

    assert at("(FX) salto forward tucked", "hip") > 100 and at("(FX) salto forward tucked", "knee") > 100
    assert at("(FX) salto forward piked", "hip") > 100 and at("(FX) salto forward piked", "knee") < 15
    assert abs(at("(FX) salto forward stretched", "hip")) < 15
    legs = np.degrees(middle["(FX) split jump"].hip)[0]
    assert abs(legs[0] - legs[1]) > 150
    assert at("(FX) straddle pike jump", "spread") > 50


@EACH
def test_captions_name_the_action_in_several_wordings(action: ActionClass) -> None:
    wordings = label_captions(action.name)
    assert len(set(wordings)) == len(wordings) >= 3
    assert all(action.name.partition(") ")[2] in wording for wording in wordings)
    assert caption(action.name, 5) == caption(action.name, 5)
    assert {caption(action.name, seed) for seed in range(40)} == set(wordings)


@pytest.mark.parametrize("wrong", [-1, len(CLASSES), "(FX) cartwheel"])
def test_a_class_that_does_not_exist_is_named(wrong: int | str) -> None:
    with pytest.raises(ValueError, match=r"cartwheel|class -?\d+"):
        action_class(wrong)
