"""Sentences that describe a class by its label, in several wordings."""

from __future__ import annotations

import re

import numpy as np

PLACES = {
    "FX": "on the floor",
    "UB": "on the uneven bars",
    "BB": "on the balance beam",
    "VT": "on the vault",
}
"""Where each event takes place, by the letters at the beginning of labels."""

_WORDINGS = (
    "A gymnast performs {what} {place}.",
    "{place_first}, the athlete shows {what}.",
    "The clip shows {what} {place}.",
    "The action is {what}, performed {place}.",
    "The athlete is performing {what} {place}.",
    "{place_first} a gymnast does {what}.",
    "This is {what}, done {place}.",
    "We see {what} {place}.",
)
_WORDINGS_WITHOUT_PLACE = (
    "The clip shows {what}.",
    "The action is {what}.",
    "This is {what}.",
    "We see {what}.",
)
_LABEL = re.compile(r"\((?P<event>[A-Z]{2})\) (?P<what>.+)")


def split_label(label: str) -> tuple[str | None, str]:
    """Split a label into its event, or None, and the action: ``(FX) split jump`` gives ``FX`` and ``split jump``."""
    found = _LABEL.fullmatch(label)
    return (None, label) if found is None or found["event"] not in PLACES else (found["event"], found["what"])


def label_captions(label: str) -> list[str]:
    """Every wording for a label. Wordings for labels without an event name no place."""
    event, what = split_label(label)
    if event is None:
        return [wording.format(what=what) for wording in _WORDINGS_WITHOUT_PLACE]
    place = PLACES[event]
    return [wording.format(what=what, place=place, place_first=place.capitalize()) for wording in _WORDINGS]


def caption(label: str, seed: int) -> str:
    """Choose one wording for a label; the same seed gives the same one."""
    wordings = label_captions(label)
    return wordings[int(np.random.default_rng([seed, 1]).integers(len(wordings)))]
