"""A mean over seeds and how far it can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats


class Interval(NamedTuple):
    """A mean over seeds and the half-width of its 95 % interval (Student's t); NaN for a single seed."""

    mean: float
    half: float
    digits: int = 1

    def __str__(self) -> str:
        mean = f"{self.mean:.{self.digits}f}"
        return f"{mean} ± {self.half:.{self.digits}f}" if np.isfinite(self.half) else mean


def interval(values: Sequence[float], digits: int = 1) -> Interval:
    """Mean and 95 % interval of a few values, one per seed, shown with this many digits."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return Interval(mean, float("nan"), digits)
    return Interval(mean, float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)), digits)
