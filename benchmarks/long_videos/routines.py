"""Routines, their true segments, and what the model says of their sliding windows."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from sefar_serve.model import Model
from sefar_training.synthgym import clip_seed, write_routine

from .average_precision import Truth


@dataclass(frozen=True)
class Windows:
    """The windows of one routine.

    Attributes:
        video: names it.
        times: start and end of each window in seconds.
        probabilities: float64 (N,K).
        truth: its true segments.
    """

    video: str
    times: list[tuple[float, float]]
    probabilities: NDArray[np.float64]
    truth: list[Truth]


def recognised(
    model: Model, seeds: Sequence[int], count: int, lengths: Sequence[Sequence[float]], stride: float
) -> dict[tuple[float, ...], list[Windows]]:
    """Render routines and run the model on their windows, for each choice of lengths.

    Args:
        model: classifies the windows.
        seeds: of the data sets whose routines are taken.
        count: routines of each seed.
        lengths: choices of window lengths, in seconds.
        stride: of the windows in seconds.
    """
    found: dict[tuple[float, ...], list[Windows]] = {tuple(some): [] for some in lengths}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "routine.mp4"
        jobs = [(seed, number) for seed in seeds for number in range(count)]
        for seed, number in track(jobs, "routines", transient=True):
            video = f"{seed}/{number}"
            actions = write_routine(path, clip_seed(seed, "routine", 0, number))
            truth = [Truth(video, one.start, one.end, one.action.index) for one in actions]
            for some, all_ in found.items():
                result = model.classify(path, window=some, stride=stride, top_k=len(model.labels), attributes=False)
                times = [(window.start, window.end) for window in result.timeline or ()]
                chances = np.zeros((len(times), len(model.labels)))
                for row, window in zip(chances, result.timeline or (), strict=True):
                    row[[label.index for label in window.labels]] = [label.score for label in window.labels]
                all_.append(Windows(video, times, chances, truth))
    return found
