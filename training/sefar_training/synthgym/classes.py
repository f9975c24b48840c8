"""The actions of SynthGym: their names in FineGym's wording, their attributes, their opposites in time.

A *forward* rotation played backwards is the *backward* one, and the other way round, as long as the
gymnast ends facing where they faced at the start. After an odd number of half turns the reversed
action is of the same class again (a forward salto with half a turn, reversed, starts forward too),
so those classes have no opposite.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Event = Literal["FX", "UB", "BB"]
Direction = Literal["forward", "backward", "none"]
Position = Literal["tucked", "piked", "stretched", "split", "straddled", "passe", "tuck stand"]
Family = Literal["salto", "giant", "circle", "leap", "jump", "turn"]


@dataclass(frozen=True)
class ActionClass:
    """One class of the data set.

    Attributes:
        name: the label, e.g. ``(FX) salto backward stretched with 1 turn``.
        family: which motion shows it.
        event: ``FX`` floor, ``UB`` bars, ``BB`` beam.
        direction: of the rotation about the side axis; ``none`` where there is no such rotation.
        position: of the body.
        twists: turns about the body's long axis, in full turns: 0, 0.5, 1, 1.5 or 2.
        saltos: somersaults in the air: 0, 1 or 2.
        opposite: name of the class that is the exact reversal in time, None where there is none.
    """

    name: str
    family: Family
    event: Event
    direction: Direction
    position: Position
    twists: float
    saltos: int
    opposite: str | None

    @property
    def index(self) -> int:
        """Class number: the place in `CLASSES`."""
        return _INDEX[self.name]

    @property
    def attributes(self) -> dict[str, str | float]:
        """The machine-readable attributes."""
        return {
            "event": self.event,
            "direction": self.direction,
            "position": self.position,
            "twists": self.twists,
            "saltos": self.saltos,
        }

    @property
    def circles(self) -> int:
        """Full rotations about the side axis, in the air or about the bar."""
        return self.saltos if self.family == "salto" else int(self.family in ("giant", "circle"))


class UnknownActionError(ValueError):
    """There is no class of that number."""


def _turns(twists: float, of: str = "with ") -> str:
    return f" {of}{twists:g} turn" if twists else ""


def _rotations(
    name: str, family: Family, event: Event, position: Position, twists: float = 0, saltos: int = 0
) -> list[ActionClass]:
    """The forward and the backward class; `name` has a place for the direction."""
    names = {direction: f"({event}) {name.format(direction)}{_turns(twists)}" for direction in ("forward", "backward")}
    exact = float(twists).is_integer()
    return [
        ActionClass(
            names["forward"],
            family,
            event,
            "forward",
            position,
            twists,
            saltos,
            names["backward"] if exact else None,
        ),
        ActionClass(
            names["backward"],
            family,
            event,
            "backward",
            position,
            twists,
            saltos,
            names["forward"] if exact else None,
        ),
    ]


def _single(name: str, family: Family, event: Event, position: Position, twists: float = 0) -> list[ActionClass]:
    return [ActionClass(f"({event}) {name}", family, event, "none", position, twists, 0, None)]


CLASSES: tuple[ActionClass, ...] = (
    *_rotations("salto {} tucked", "salto", "FX", "tucked", saltos=1),
    *_rotations("salto {} piked", "salto", "FX", "piked", saltos=1),
    *_rotations("salto {} stretched", "salto", "FX", "stretched", saltos=1),
    *_rotations("salto {} stretched", "salto", "FX", "stretched", twists=1, saltos=1),
    *_rotations("salto {} stretched", "salto", "FX", "stretched", twists=1.5, saltos=1),
    *_rotations("salto {} stretched", "salto", "FX", "stretched", twists=2, saltos=1),
    *_rotations("double salto {} tucked", "salto", "FX", "tucked", saltos=2),
    *_rotations("double salto {} piked", "salto", "FX", "piked", saltos=2),
    *_single("split leap", "leap", "FX", "split"),
    *_single("split leap with 0.5 turn", "leap", "FX", "split", 0.5),
    *_single("split leap with 1 turn", "leap", "FX", "split", 1),
    *_single("1 turn on one leg", "turn", "FX", "passe", 1),
    *_single("2 turn on one leg", "turn", "FX", "passe", 2),
    *_rotations("salto {} tucked", "salto", "BB", "tucked", saltos=1),
    *_single("straddle pike jump", "jump", "BB", "straddled"),
    *_single("1 turn in tuck stand on one leg", "turn", "BB", "tuck stand", 1),
    *_single("2 turn in tuck stand on one leg", "turn", "BB", "tuck stand", 2),
    *_rotations("giant circle {}", "giant", "UB", "stretched"),
    *_rotations("giant circle {}", "giant", "UB", "stretched", twists=0.5),
    *_rotations("giant circle {}", "giant", "UB", "stretched", twists=1),
    *_rotations("pike sole circle {}", "circle", "UB", "piked"),
)

_INDEX: Mapping[str, int] = {action.name: index for index, action in enumerate(CLASSES)}


def action_class(action: ActionClass | int) -> ActionClass:
    """A class by itself or by its number.

    Raises:
        UnknownActionError: if there is no class of that number.
    """
    if isinstance(action, ActionClass):
        return action
    if not 0 <= action < len(CLASSES):
        raise UnknownActionError(f"no action class {action}; they are numbered 0 to {len(CLASSES) - 1}")
    return CLASSES[action]


def opposite_of(action: ActionClass) -> ActionClass | None:
    """The class that is this one's exact reversal in time, or None."""
    return None if action.opposite is None else CLASSES[_INDEX[action.opposite]]
