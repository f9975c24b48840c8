"""What is typical of a model's training clips, and how typical a new clip is: its familiarity.

A clip is described by the mean of its tokens, which show everything that the backbone sees. The embedding shows less:
it is trained, or projected, to tell the classes apart, and clips of something else are in the middle of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from sefar_serve.errors import SefarError
from sefar_serve.metadata import FamiliarityInfo

FILE = "typical.safetensors"
"""Its name in a checkpoint folder."""

NEIGHBOUR = 5
"""Which of the nearest reference clips is measured to. The first would be fooled by a single odd training clip."""

MOST_REFERENCES = 1000
"""Most clips that are kept; of longer training lists, a random part."""

FEWEST_HELD_OUT = 10
"""Fewest clips that a distance can be compared with."""

MOST_KNOTS = 201
"""Most points of the curve from distance to familiarity."""


class TypicalError(SefarError, ValueError):
    """Familiarity cannot be measured from these clips."""


@dataclass(frozen=True, eq=False)
class Typical:
    """What familiarity is computed from.

    The distance of a clip is that of its mean token to the `NEIGHBOUR`-th nearest reference clip. Familiarity is the
    share of held-out clips at a larger distance, linear between the knots of a curve.

    Attributes:
        reference: float32 (N,D), the mean token of each reference clip.
        distances: float32 (M,), ascending: distances of the knots.
        shares: float32 (M,), from 1 down to 0: the familiarity at each knot.
        held_out: number of held-out clips that the curve was made from.
    """

    reference: NDArray[np.float32]
    distances: NDArray[np.float32]
    shares: NDArray[np.float32]
    held_out: int

    @property
    def neighbour(self) -> int:
        """Which of the nearest reference clips the distance is measured to."""
        return min(NEIGHBOUR, len(self.reference))

    @property
    def info(self) -> FamiliarityInfo:
        """What the exported file says about it."""
        return FamiliarityInfo(method=f"knn{self.neighbour}", clips=len(self.reference), held_out=self.held_out)

    def marked(self, below: float) -> int:
        """How many of the held-out clips have a familiarity below a threshold."""
        shares = (np.arange(self.held_out) + 0.5) / self.held_out
        return int((shares < below).sum())

    def distance(self, mean_tokens: NDArray[np.floating]) -> NDArray[np.float64]:
        """Distances (B,) of clips with the mean tokens (B,D)."""
        return _distance(self.reference, mean_tokens)

    def familiarity(self, mean_tokens: NDArray[np.floating]) -> NDArray[np.float32]:
        """Familiarity in [0, 1], float32 (B,), of clips with the mean tokens (B,D)."""
        return np.interp(self.distance(mean_tokens), self.distances, self.shares).astype(np.float32)


def fit_typical(train: NDArray[np.floating], held_out: NDArray[np.floating], seed: int = 0) -> Typical:
    """Find out what is typical.

    Args:
        train: mean tokens of training clips, (N,D).
        held_out: mean tokens of clips of the same kind that were not trained on, (V,D).
        seed: of the choice between more than `MOST_REFERENCES` training clips.

    Raises:
        TypicalError: there are too few held-out clips, or all are at the same distance.
    """
    count = len(held_out)
    if count < FEWEST_HELD_OUT:
        raise TypicalError(
            f"familiarity needs a validation list of at least {FEWEST_HELD_OUT} clips, but there are {count}"
        )
    chosen = np.sort(np.random.default_rng(seed).permutation(len(train))[:MOST_REFERENCES])
    reference = train[chosen].astype(np.float32)
    found = np.sort(_distance(reference, held_out))
    # The farthest held-out clip has the share of half a clip, and a new one may be somewhat farther away: with few
    # held-out clips it would otherwise be marked too often.
    shares = (count - np.arange(count) - 0.5) / count
    reach = found[-1] - np.median(found)
    places = np.unique(np.linspace(0, count - 1, min(count, MOST_KNOTS)).round().astype(int))
    distances = np.concatenate([[max(0.0, found[0] - reach / count)], found[places], [found[-1] + reach]])
    shares = np.concatenate([[1.0], shares[places], [0.0]])
    distances, first = np.unique(distances.astype(np.float32), return_index=True)
    if len(distances) < 2 or reach <= 0:
        raise TypicalError(
            "all held-out clips are at the same distance from the training clips; are they all the same?"
        )
    return Typical(reference, distances, _descending(shares[first]), count)


def _descending(shares: NDArray[np.float64]) -> NDArray[np.float32]:
    """The shares, from exactly 1 to exactly 0; equal distances may have taken an end away."""
    ends = shares.copy()
    ends[0], ends[-1] = 1.0, 0.0
    return ends.astype(np.float32)


def _distance(reference: NDArray[np.float32], mean_tokens: NDArray[np.floating]) -> NDArray[np.float64]:
    near = min(NEIGHBOUR, len(reference)) - 1
    known = reference.astype(np.float64)
    squared = (known**2).sum(axis=1)
    found = np.empty(len(mean_tokens))
    for start in range(0, len(mean_tokens), 256):
        rows = mean_tokens[start : start + 256].astype(np.float64)
        apart = (rows**2).sum(axis=1)[:, None] + squared - 2 * rows @ known.T
        found[start : start + 256] = np.sqrt(np.maximum(np.partition(apart, near, axis=1)[:, near], 0))
    return found


def save_typical(folder: Path, typical: Typical) -> None:
    """Write `FILE` into a folder."""
    arrays = {name: getattr(typical, name) for name in ("reference", "distances", "shares")}
    save_file(arrays, folder / FILE, {"held_out": str(typical.held_out)})


def load_typical(folder: Path) -> Typical | None:
    """Read `FILE` from a folder; None if there is none.

    Raises:
        TypicalError: it is damaged.
    """
    file = folder / FILE
    if not file.exists():
        return None
    try:
        with safe_open(file, "numpy") as stored:
            arrays = {name: stored.get_tensor(name) for name in ("reference", "distances", "shares")}
            return Typical(**arrays, held_out=int(stored.metadata()["held_out"]))
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise TypicalError(f"{file} is damaged: {error}; fit it again with `sefar calibrate`") from error
