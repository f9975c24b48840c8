"""What a user's collection says about its clips, whatever format it is written in."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sefar_serve.errors import SefarError

Split = Literal["train", "val", "test", "unlabelled"]

SPLITS: dict[str, Split] = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
    **dict.fromkeys(("unlabelled", "unlabeled", "unlabel", "unlabe"), "unlabelled"),
}
"""How folders, columns and files spell the splits."""

SHOWN = 5
"""Most problems that a message shows; the rest are counted."""


@dataclass(frozen=True)
class Row:
    """One clip, as its collection describes it.

    Attributes:
        name: the file relative to the folder of the collection, with `/`, or absolute.
        label: name of its class; None if it has none.
        start: where the clip begins, in seconds since the first frame; None for the first frame.
        end: where the clip ends, in seconds since the first frame; None for the end of the video.
        group: what it was recorded with (place, person, session); clips of one group are never split up.
        split: what it is for; None if the collection does not say.
    """

    name: str
    label: str | None = None
    start: float | None = None
    end: float | None = None
    group: str | None = None
    split: Split | None = None

    @property
    def is_span(self) -> bool:
        """Whether the clip is a part of its file."""
        return not (self.start is self.end is None)

    @property
    def title(self) -> str:
        """The name, with the span if it has one, e.g. ``a.mp4#t=3,5.5`` (Media Fragments 1.0, 4.2.1)."""
        if not self.is_span:
            return self.name
        return f"{self.name}#t={self.start or 0:g}" + ("" if self.end is None else f",{self.end:g}")


@dataclass(frozen=True)
class RowProblem:
    """A row that cannot be used.

    Attributes:
        file: the file that it is in.
        where: its place there, e.g. ``line 3``; empty for the file itself.
        reason: what is wrong, and how to fix it.
    """

    file: Path
    where: str
    reason: str

    def __str__(self) -> str:
        return f"{self.file}{f', {self.where}' if self.where else ''}: {self.reason}"


class CollectionError(SefarError, ValueError):
    """A collection cannot be read: it is empty, its format is unknown, or rows are wrong.

    Attributes:
        problems: every row that is wrong; the message shows the first few.
    """

    status = 400
    code = "invalid_collection"

    def __init__(self, message: str, problems: tuple[RowProblem, ...] = ()) -> None:
        super().__init__(message)
        self.problems = problems


class Problems:
    """Collects what is wrong with the rows of a file.

    Args:
        file: the file, for messages.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.found: list[RowProblem] = []

    def add(self, where: str, reason: str) -> None:
        """Add a problem; see `RowProblem`."""
        self.found.append(RowProblem(self.file, where, reason))


def raise_problems(found: list[RowProblem]) -> None:
    """Report all problems at once.

    Raises:
        CollectionError: there are any.
    """
    if not found:
        return
    shown = "\n  ".join(map(str, found[:SHOWN]))
    more = f"\n  and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    count = "1 row is" if len(found) == 1 else f"{len(found)} rows are"
    raise CollectionError(f"{count} wrong; fix or remove them:\n  {shown}{more}", tuple(found))


def read_seconds(value: object, column: str) -> float | None:
    """Read a time: a number, its text, or ``[hh:]mm:ss[.fff]``.

    Returns:
        Seconds; None for an empty value.

    Raises:
        ValueError: it is not a time; the message says what to write.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        parts = [float(part) for part in value.split(":")] if isinstance(value, str) else [float(value)]  # type: ignore[arg-type]
        if isinstance(value, bool) or len(parts) > 3:
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        parts = [-1.0]
    if len(parts) == 1 and math.isnan(parts[0]):
        return None  # pandas writes empty cells so
    seconds = 0.0
    for part in parts:
        seconds = seconds * 60 + part
    if any(part < 0 for part in parts) or not math.isfinite(seconds):
        raise ValueError(f"{column} is {value!r}; write seconds, 0 or more, e.g. 12.5, or mm:ss, or leave it empty")
    return seconds


def checked_span(start: float | None, end: float | None) -> None:
    """Check that a span has a length.

    Raises:
        ValueError: it has none.
    """
    if end is not None and end <= (start or 0.0):
        raise ValueError(f"the clip ends at {end:g} s, not after its start at {start or 0:g} s; end is a time too")
