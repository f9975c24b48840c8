"""Extract the attributes that a sentence states, so that captions are scored by content, not by wording."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from ..data import ClassTable
from .questions import normalised

Attributes = dict[str, str | float]
"""Name to value. Unstated attributes are absent. Contradictory values are joined by "and", which matches no value."""

AttributeReader = Callable[[str], Attributes]

LABEL = "label"
"""The only attribute of classes without attributes: the class itself."""

_NUMBERS = {"no": 0.0, "half a": 0.5, "half": 0.5, "a": 1.0, "one": 1.0, "two": 2.0, "three": 3.0}
_NUMBER = rf"(?P<number>\d+(?:\.\d+)?|{'|'.join(_NUMBERS)})"

_EVENTS = {
    "FX": r"\bfloor\b|\(fx\)",
    "UB": r"\b(?:uneven )?bars?\b|\(ub\)",
    "BB": r"\b(?:balance )?beam\b|\(bb\)",
}
_DIRECTIONS = {"forward": r"\bforwards?\b", "backward": r"\bbackwards?\b", "none": r"\bno direction\b"}
_POSITIONS = (
    ("tuck stand", r"\btuck stand\b"),
    ("leg held up", r"\bleg held up(?:ward)?\b"),
    ("straddled", r"\bstraddle pike\b|\bstraddled?\b|\bstalder\b"),
    ("split", r"\bsplit\b"),
    ("wolf", r"\bwolf\b"),
    ("tucked", r"\btuck(?:ed)?\b"),
    ("piked", r"\bpiked?\b"),
    ("stretched", r"\bstretched\b|\bgiant\b"),
    ("upright", r"\bupright\b"),
)
"""In this order; a match is removed from the sentence, so that ``straddle pike`` is not also piked."""

_SALTO, _CIRCLE, _JUMP = r"\bsaltos?\b", r"\b(?:circle|stalder)\b", r"\b(?:jump|leap)\b"
_TURN = r"\bon one leg\b|\bfree leg\b|\btuck stand\b"
"""Words that only occur with turns on the beam; saltos and jumps are made `with` turns."""

_TURNS = re.compile(rf"\b{_NUMBER} (?:full )?(?:turns?|twists?)\b")
_SALTOS = re.compile(rf"\b{_NUMBER} saltos?\b")


def read_gymnastics(text: str) -> Attributes:
    """Extract event, direction, position, twists and saltos from a sentence about a gymnastics move.

    The name of a move also states what is always true of it: a jump has no direction, a circle has no salto.
    Impossible combinations, such as a piked giant circle, are still read.
    """
    text = normalised(text)
    salto, circle, jump, turn = (bool(re.search(pattern, text)) for pattern in (_SALTO, _CIRCLE, _JUMP, _TURN))
    stated: dict[str, Sequence[str | float]] = {
        "event": [event for event, pattern in _EVENTS.items() if re.search(pattern, text)],
        "direction": [way for way, pattern in _DIRECTIONS.items() if re.search(pattern, text)],
        "position": _positions(text),
        "twists": sorted({_number(found["number"]) for found in _TURNS.finditer(text)}),
        "saltos": sorted({_number(found["number"]) for found in _SALTOS.finditer(text)}),
    }
    if not stated["direction"] and (jump or turn) and not (salto or circle):
        stated["direction"] = ["none"]
    if not stated["position"] and turn:
        stated["position"] = ["upright"]
    described = stated["direction"] or stated["position"]  # otherwise it is a number of saltos, not an action
    if not stated["twists"] and described and (salto or circle or jump):
        stated["twists"] = [0.0]
    if "double salto" in text:
        stated["saltos"] = [2.0]
    elif not stated["saltos"] and (salto or circle or jump or turn):
        stated["saltos"] = [float(salto)]
    return {name: _joined(values) for name, values in stated.items() if values}


def _positions(text: str) -> list[str]:
    found = []
    for position, pattern in _POSITIONS:
        rest = re.sub(pattern, " ", text)
        if rest != text:
            found.append(position)
            text = rest
    return found


def _number(text: str) -> float:
    return _NUMBERS[text] if text in _NUMBERS else float(text)


def _joined(values: Sequence[str | float]) -> str | float:
    return values[0] if len(values) == 1 else " and ".join(map(str, values))


class LabelReader:
    """Reads sentences about any data set: finds the longest label in the sentence and gives its class's attributes.

    Args:
        classes: the classes; a class without attributes has `LABEL` as its only one.
    """

    def __init__(self, classes: ClassTable) -> None:
        of_class = [class_attributes(classes, i) for i in range(len(classes.labels))]
        named = [(_words(option_text(label)), found) for label, found in zip(classes.labels, of_class, strict=True)]
        self._named = sorted(named, key=lambda item: -len(item[0]))

    def __call__(self, text: str) -> Attributes:
        """Extract the attributes; empty if the sentence contains no label."""
        text = _words(text)
        for name, found in self._named:
            if name in text:
                return dict(found)
        return {}


def _words(text: str) -> str:
    """Strip punctuation at the ends of words, and add a space on either side of the text."""
    return f" {re.sub(r'[.,;:!?]+(?= |$)', '', normalised(text))} "


def option_text(label: str) -> str:
    """A label as the text of an option: without its event, as in the authors' questions."""
    return re.sub(r"^\([A-Z]{2}\) ", "", label)


def class_attributes(classes: ClassTable, index: int) -> Attributes:
    """The attributes of a class that captions are scored by."""
    return dict(classes.attributes[index]) if classes.attributes else {LABEL: classes.labels[index]}


def reader_for(classes: ClassTable) -> AttributeReader:
    """Choose a data set's reader: the gymnastics grammar if it reads every label correctly, else `LabelReader`."""
    if classes.attributes and all(
        read_gymnastics(label) == found for label, found in zip(classes.labels, classes.attributes, strict=True)
    ):
        return read_gymnastics
    return LabelReader(classes)
