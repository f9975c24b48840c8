"""Sentences about an action, in several wordings, chosen by seed."""

from __future__ import annotations

import numpy as np

from sefar_training.synthgym.classes import ActionClass

_PLACES = {"FX": "on the floor", "UB": "on the uneven bars", "BB": "on the balance beam"}
_WORDINGS = (
    "A gymnast performs {what} {place}.",
    "{place_first}, the athlete shows {what}.",
    "The clip shows {what} {place}.",
    "The action is {what}, performed {place}.",
)


def captions(action: ActionClass) -> list[str]:
    """Every wording for a class."""
    what = action.name.partition(") ")[2]
    place = _PLACES[action.event]
    return [wording.format(what=what, place=place, place_first=place.capitalize()) for wording in _WORDINGS]


def caption(action: ActionClass, seed: int) -> str:
    """One wording for a class, the same for the same seed."""
    wordings = captions(action)
    return wordings[int(np.random.default_rng([seed, 1]).integers(len(wordings)))]
