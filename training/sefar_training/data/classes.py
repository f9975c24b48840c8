"""What is known of the classes: names, attributes, opposites."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path


class ClassesError(ValueError):
    """The files describing the classes are malformed or contradict each other."""


@dataclass(frozen=True)
class ClassTable:
    """The classes of a data set, class n at position n.

    Attributes:
        labels: names.
        attributes: machine-readable attributes of each; empty where the data set has none.
        opposites: the class that is each one's exact opposite in time, or None; empty where unknown.
    """

    labels: tuple[str, ...]
    attributes: tuple[dict[str, str | float], ...] = ()
    opposites: tuple[int | None, ...] = ()

    @classmethod
    def read(cls, labels: Path, classes: Path | None = None) -> ClassTable:
        """Read a label file and, where there is one, the JSON of attributes and opposites.

        Args:
            labels: text file, line n names class n.
            classes: JSON list; entry n is an object with ``name``, ``attributes`` and ``opposite``
                (class number or null).

        Raises:
            ClassesError: if the files are malformed or disagree about names.
        """
        names = tuple(line.strip() for line in labels.read_text(encoding="utf-8").splitlines() if line.strip())
        if not names:
            raise ClassesError(f"{labels} names no classes")
        if classes is None:
            return cls(names)
        try:
            table = json.loads(classes.read_text(encoding="utf-8"))
            described = tuple(str(entry["name"]) for entry in table)
            attributes = tuple(dict(entry["attributes"]) for entry in table)
            opposites = tuple(entry["opposite"] for entry in table)
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ClassesError(
                f"{classes} is not a list of objects with name, attributes and opposite: {error}"
            ) from error
        if described != names:
            raise ClassesError(f"{classes} and {labels} name different classes")
        return cls(names, attributes, opposites)
