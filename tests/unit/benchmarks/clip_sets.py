"""Clips with folds for tests of the studies, without files behind them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.pose_study.clips import ClipSet


def clip_set(root: Path = Path("clips"), each: int = 4, folds: int = 5, classes: int = 2) -> ClipSet:
    """A set with `each` clips of every class in every fold."""
    labels = np.tile(np.repeat(np.arange(classes), each), folds)
    numbers = np.repeat(np.arange(folds), each * classes)
    paths = tuple(f"clip{n}.mp4" for n in range(len(labels)))
    return ClipSet("tennis", root, paths, tuple(f"class {n}" for n in range(classes)), labels, numbers)
