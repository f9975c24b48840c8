"""The colours of a torso: alike where the light differs little, unlike for another shirt."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sefar_serve.pose import Picture
from sefar_serve.pose.appearance import likeness, torso_colours
from sefar_serve.pose.tracker import MIN_LIKENESS

HIPS, SHOULDERS = np.array([100.0, 140.0]), np.array([100.0, 60.0])
colours = st.tuples(*[st.integers(0, 255)] * 3)


def shirt(colour: tuple[int, int, int], ground: int = 128) -> Picture:
    pixels = np.full((200, 200, 3), ground, np.uint8)
    pixels[50:150, 60:140] = colour
    return Picture(pixels)


def worn(picture: Picture) -> np.ndarray:
    return torso_colours(picture, HIPS, SHOULDERS)


@settings(deadline=None)
@given(colours)
def test_shares_sum_to_1_and_a_torso_is_like_itself(colour: tuple[int, int, int]) -> None:
    shares = worn(shirt(colour))
    assert shares.min() >= 0
    assert shares.sum() == pytest.approx(1)
    assert likeness(shares, shares) == pytest.approx(1)


@settings(deadline=None)
@given(colours, st.integers(-12, 12))
def test_a_little_more_or_less_light_leaves_the_person_the_same(colour: tuple[int, int, int], light: int) -> None:
    lit = tuple(int(np.clip(value + light, 0, 255)) for value in colour)
    assert likeness(worn(shirt(colour)), worn(shirt(lit))) > MIN_LIKENESS  # type: ignore[arg-type]


def test_the_ground_does_not_count() -> None:
    assert likeness(worn(shirt((200, 30, 30), 0)), worn(shirt((200, 30, 30), 255))) == pytest.approx(1)


def test_other_shirts_are_unlike() -> None:
    red, blue, dark = (worn(shirt(colour)) for colour in ((220, 30, 30), (30, 30, 220), (20, 20, 20)))
    assert max(likeness(red, blue), likeness(red, dark), likeness(blue, dark)) < 0.35


def test_a_body_upside_down_wears_the_same() -> None:
    picture = shirt((200, 30, 30))
    assert likeness(worn(picture), torso_colours(picture, SHOULDERS, HIPS)) == pytest.approx(1)
