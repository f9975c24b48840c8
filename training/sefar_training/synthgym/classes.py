"""The classes of SynthGym, named as in FineGym, with machine-readable attributes.

Every salto and circle has an exact opposite in time: the forward one played in reverse is the backward one. Jumps and
turns have no opposite.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Family = Literal["salto", "giant", "jump", "turn"]


@dataclass(frozen=True)
class ActionClass:
    """One class of the data set.

    Attributes:
        name: the label, e.g. ``(FX) salto backward tucked with 1 turn``.
        event: FX (floor), UB (uneven bars) or BB (balance beam).
        family: the kind of motion.
        direction: forward, backward, or none.
        position: body position in the main phase.
        twists: full turns about the body's long axis.
        saltos: full turns about the lateral axis in flight.
    """

    name: str
    event: str
    family: Family
    direction: str
    position: str
    twists: float
    saltos: int

    @property
    def attributes(self) -> dict[str, str | float]:
        """The machine-readable attributes."""
        return {
            "event": self.event,
            "direction": self.direction,
            "position": self.position,
            "twists": float(self.twists),
            "saltos": float(self.saltos),
        }

    @property
    def opposite(self) -> str | None:
        """Name of the class that shows this one in reverse, or None."""
        swap = {"forward": "backward", "backward": "forward"}
        other = swap.get(self.direction)
        return None if other is None else self.name.replace(self.direction, other)

    @property
    def index(self) -> int:
        """Class number: the line in labels.txt."""
        return _INDEX[self.name]

    @property
    def as_forward(self) -> ActionClass:
        """The class whose motion is computed; a backward class shows the motion of its opposite in reverse."""
        if self.direction != "backward" or self.opposite is None:
            return self
        return CLASSES[_INDEX[self.opposite]]


def _turns(twists: float) -> str:
    return f" with {twists:g} turn" if twists else ""


def _make() -> tuple[ActionClass, ...]:
    made = []
    both = ("forward", "backward")
    for position, turns in (("tucked", (0, 1)), ("piked", (0, 1)), ("stretched", (0, 1, 2))):
        for twists in turns:
            for way in both:
                name = f"(FX) salto {way} {position}{_turns(twists)}"
                made.append(ActionClass(name, "FX", "salto", way, position, twists, 1))
    for position in ("tucked", "piked"):
        for way in both:
            name = f"(FX) double salto {way} {position}"
            made.append(ActionClass(name, "FX", "salto", way, position, 0, 2))
    # Whole turns only: a circle or salto with half a turn, played in reverse, is the same move seen from the other
    # side, so it has no opposite.
    for twists in (0, 1):
        for way in both:
            name = f"(UB) giant circle {way}{_turns(twists)}"
            made.append(ActionClass(name, "UB", "giant", way, "stretched", twists, 0))
    for way in both:
        made.append(ActionClass(f"(UB) clear pike circle {way}", "UB", "giant", way, "piked", 0, 0))
    for way in both:
        made.append(ActionClass(f"(UB) stalder {way}", "UB", "giant", way, "straddled", 0, 0))
    for event, position, twists, name in (
        ("FX", "split", 0, "split jump"),
        ("FX", "split", 1, "split jump with 1 turn"),
        ("FX", "straddled", 0, "straddle pike jump"),
        ("FX", "tucked", 0, "tuck jump"),
        ("FX", "tucked", 1, "tuck jump with 1 turn"),
        ("FX", "wolf", 0, "wolf jump"),
    ):
        made.append(ActionClass(f"({event}) {name}", event, "jump", "none", position, twists, 0))
    for position, twists, name in (
        ("upright", 1, "1 turn on one leg"),
        ("upright", 2, "2 turn on one leg"),
        ("tuck stand", 2, "2 turn in tuck stand on one leg"),
        ("leg held up", 1, "1 turn with free leg held upward"),
    ):
        made.append(ActionClass(f"(BB) {name}", "BB", "turn", "none", position, twists, 0))
    return tuple(made)


CLASSES = _make()
_INDEX = {action.name: index for index, action in enumerate(CLASSES)}


def action_class(which: ActionClass | int | str) -> ActionClass:
    """Look up a class by its number or name; a class is returned as is.

    Raises:
        ValueError: there is no such class.
    """
    if isinstance(which, ActionClass):
        return which
    if isinstance(which, str):
        if which not in _INDEX:
            raise ValueError(f"no class {which!r} in SynthGym; see sefar_training.synthgym.CLASSES")
        return CLASSES[_INDEX[which]]
    if not 0 <= which < len(CLASSES):
        raise ValueError(f"class {which} is not in [0, {len(CLASSES)})")
    return CLASSES[which]
