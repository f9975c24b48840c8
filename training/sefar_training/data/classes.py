"""The classes of a data set: names, attributes and opposites."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sefar_serve.errors import SefarError
from sefar_serve.lists import ListEntry


class ClassesError(SefarError, ValueError):
    """The files that describe the classes are malformed or contradict each other."""


@dataclass(frozen=True)
class ClassTable:
    """The classes of a data set, class n at position n.

    Attributes:
        labels: class names.
        attributes: machine-readable attributes of each class; empty if the data set has none.
        opposites: for each class the number of its exact opposite in time, or None; empty if unknown.
    """

    labels: tuple[str, ...]
    attributes: tuple[dict[str, str | float], ...] = ()
    opposites: tuple[int | None, ...] = ()

    @classmethod
    def numbered(cls, entries: Iterable[ListEntry]) -> ClassTable:
        """Name unnamed classes ``class_0`` up to the highest label in the lists."""
        return cls(tuple(f"class_{n}" for n in range(max(entry.label for entry in entries) + 1)))

    @classmethod
    def read(cls, labels: Path | None, classes: Path | None = None) -> ClassTable:
        """Read a label file and, if given, a JSON file of attributes and opposites.

        Args:
            labels: text file, line n names class n; None takes the names from the JSON file.
            classes: JSON list; entry n is an object with ``name``, ``attributes`` and ``opposite``
                (class number or null).

        Raises:
            ClassesError: the files are malformed or disagree about names.
        """
        names = None if labels is None else _read_labels(labels)
        if classes is None:
            if names is None:
                raise ClassesError("neither a label file nor a JSON file of classes is given")
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
            raise ClassesError(f"{classes} and {labels} list different class names")
        return cls(described, attributes, opposites)

    def check(self, entries: Iterable[ListEntry], source: Path) -> None:
        """Check that a list has no labels beyond these classes.

        Raises:
            ClassesError: it has; the message names the list and its highest label.
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
            f"label file {file} does not exist; with data.labels=null the classes are numbered as in the lists"
        ) from error
    names = tuple(line.strip() for line in lines)
    if not names:
        raise ClassesError(f"{file} is empty; it needs one class name per line")
    if not all(names):
        raise ClassesError(f"{file}, line {names.index('') + 1} is empty; line n must name class n")
    return names
