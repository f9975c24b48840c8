"""Runs and their results: one JSON line each, written as soon as a run is done, so that a stopped study resumes."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .clips import ClipSet


@dataclass(frozen=True)
class Run:
    """One run of a method.

    Attributes:
        method: its name.
        count: labels a class; 0 for all.
        held: folds that are left out: one for a reported run, two for a run that chooses settings.
        draw: number of the draw.
        setting: the setting that is chosen between, as text; empty if the method has none.
        recipe: what of the recipe the method depends on, as a hash; empty if nothing.
    """

    method: str
    count: int
    held: tuple[int, ...]
    draw: int
    setting: str = ""
    recipe: str = ""


@dataclass(frozen=True)
class Result:
    """What a run predicts.

    Attributes:
        probabilities: of each class for each clip in the folds left out, float64 (N,K), in the order of the set.
        seconds: CPU time of training and prediction.
    """

    probabilities: NDArray[np.float64]
    seconds: float

    def predicted(self, clips: ClipSet, run: Run, fold: int) -> NDArray[np.float64]:
        """The probabilities (n,K) of one of the run's folds."""
        found: NDArray[np.float64] = self.probabilities[clips.folds[clips.held(run.held)] == fold]
        return found


class Results:
    """The results in a file.

    Args:
        file: one line a run; created at the first result.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._known: dict[Run, Result] = {}
        lines = file.read_text(encoding="utf-8").split("\n") if file.exists() else []
        # What follows the last line break is empty, or a line that was cut off by a kill.
        for line in lines[:-1]:
            self._add(json.loads(line))
        self._torn = bool(lines and lines[-1])

    def __contains__(self, run: Run) -> bool:
        return run in self._known

    def __getitem__(self, run: Run) -> Result:
        return self._known[run]

    def runs(self) -> list[Run]:
        """All finished runs, oldest first."""
        return list(self._known)

    def add(self, run: Run, result: Result) -> None:
        """Append a result durably."""
        rows = np.round(result.probabilities, 4).tolist()
        line = json.dumps(asdict(run) | {"seconds": round(result.seconds, 3), "probabilities": rows})
        self._file.parent.mkdir(parents=True, exist_ok=True)
        if self._torn:
            whole = self._file.read_text(encoding="utf-8")
            self._file.write_text(whole[: whole.rfind("\n") + 1], encoding="utf-8")
            self._torn = False
        # One unbuffered write, so that lines of several studies in one file do not mix.
        with self._file.open("ab", buffering=0) as file:
            file.write(f"{line}\n".encode())
            os.fsync(file.fileno())
        self._add(json.loads(line))

    def _add(self, line: dict[str, Any]) -> None:
        probabilities, seconds = np.array(line.pop("probabilities")), line.pop("seconds")
        self._known[Run(**line | {"held": tuple(line["held"])})] = Result(probabilities, seconds)
