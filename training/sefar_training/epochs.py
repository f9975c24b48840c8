"""What a run knows of its epochs: which is the best one so far, and how long the others will take."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from sefar_serve.atomic import atomic_file

WATCHED = ("top1", "student_top1")
"""Figures of the val list; the higher one counts, because the better model becomes the final one."""


class Best:
    """Keeps the weights of the best epoch in a file. Of equally good ones it keeps the last, which has trained longest.

    Args:
        file: where they are kept.
        patience: epochs without a better one after which training should stop; None keeps nothing.
        watch_from: first epoch that counts.
    """

    def __init__(self, file: Path, patience: int | None, watch_from: int = 0) -> None:
        self._file = file
        self._patience = patience
        self._watch_from = watch_from
        self._value = -1.0
        self._since = 0

    def open(self, resume: bool) -> None:
        """Go on with what an interrupted run found, or forget it."""
        if not resume:
            self._file.unlink(missing_ok=True)
        elif (kept := self.load()) is not None:
            self._value, self._since = kept["value"], kept["since"]

    def update(self, line: Mapping[str, Any], weights: Callable[[], dict[str, Any]]) -> bool:
        """Compare an epoch with the best one.

        Args:
            line: its number and its figures.
            weights: returns its weights.

        Returns:
            Whether training should stop.
        """
        value = max((line[name] for name in WATCHED if name in line), default=None)
        if self._patience is None or value is None or line["epoch"] < self._watch_from:
            return False
        if value > self._value:
            self._since = line["epoch"]
        if value >= self._value:
            self._value = value
            with atomic_file(self._file) as new:
                torch.save({"step": weights(), "last": dict(line), "value": value, "since": self._since}, new)
        return bool(line["epoch"] - self._since >= self._patience)

    def load(self) -> dict[str, Any] | None:
        """The weights of the best epoch, ``step``, and its figures, ``last``; None if there is none."""
        if not self._file.exists():
            return None
        kept: dict[str, Any] = torch.load(self._file, map_location="cpu", weights_only=True)
        return kept


class Clock:
    """Says how long a run still takes.

    Args:
        done: steps that are done already.
    """

    def __init__(self, done: int) -> None:
        self._first = done
        self._started = time.monotonic()

    def left(self, done: int, steps: int) -> str:
        """The time left after `done` of `steps` steps, e.g. ``02:31``, at the speed so far."""
        each = (time.monotonic() - self._started) / max(done - self._first, 1)
        return tqdm.format_interval(each * (steps - done))
