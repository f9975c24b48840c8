"""What is known of the classes: names, attributes, opposites."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sefar_serve.errors import SefarError
from sefar_serve.lists import ListEntry


class ClassesError(SefarError, ValueError):
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
    def numbered(cls, entries: Iterable[ListEntry]) -> ClassTable:
        """Classes that have no names: ``class_0`` to the highest in the lists."""
        return cls(tuple(f"class_{n}" for n in range(max(entry.label for entry in entries) + 1)))

    @classmethod
    def read(cls, labels: Path | None, classes: Path | None = None) -> ClassTable:
        """Read a label file and, where there is one, the JSON of attributes and opposites.

        Args:
            labels: text file, line n names class n; None where the JSON is to say the names.
            classes: JSON list; entry n is an object with ``name``, ``attributes`` and ``opposite``
                (class number or null).

        Raises:
            ClassesError: if the files are malformed or disagree about names.
        """
        names = None if labels is None else _read_labels(labels)
        if classes is None:
            if names is None:
                raise ClassesError("neither a label file nor a table of classes is given")
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
        if names not in (described, None):
            raise ClassesError(f"{classes} and {labels} name different classes")
        return cls(described, attributes, opposites)

    def check(self, entries: Iterable[ListEntry], source: Path) -> None:
        """Make sure that a list has no class beyond these.

        Raises:
            ClassesError: naming the list and its highest label.
        """
        highest = max((entry.label for entry in entries), default=0)
        if highest >= len(self.labels):
            raise ClassesError(
                f"{source} has label {highest}, but there are {len(self.labels)} classes, 0 to {len(self.labels) - 1}; "
                "labels count from 0"
            )


def _read_labels(file: Path) -> tuple[str, ...]:
    try:
        lines = file.read_text(encoding="utf-8").rstrip().splitlines()
    except FileNotFoundError as error:
        raise ClassesError(
            f"there is no label file {file}; data.labels=null numbers the classes as they are in the lists"
        ) from error
    names = tuple(line.strip() for line in lines)
    if not names:
        raise ClassesError(f"{file} names no classes")
    if not all(names):
        raise ClassesError(f"{file}, line {names.index('') + 1} is empty, but line n names class n")
    return names
