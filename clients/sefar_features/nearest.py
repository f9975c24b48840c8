"""Nearest neighbours by cosine: what every search needs, and the one that compares every clip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Match:
    """A clip that is near.

    Attributes:
        id: of the clip.
        path: of its video.
        score: cosine of the two embeddings, −1 to 1.
        label: the model's best class for it.
    """

    id: str
    path: str
    score: float
    label: str


class Index(Protocol):
    """Finds rows by direction."""

    def search(self, query: NDArray[np.float32], k: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """Rows and cosines of the `k` nearest or of fewer, the nearest first; `query` is (256,), of length 1."""


class ExactIndex:
    """Looks at every row.

    Args:
        units: float32 (N, 256), as `normalise` leaves them.
    """

    def __init__(self, units: NDArray[np.float32]) -> None:
        self._units = units
        self._absent = np.flatnonzero(~units.any(axis=1))

    def search(self, query: NDArray[np.float32], k: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """See `Index`."""
        cosines: NDArray[np.float32] = self._units @ query
        cosines[self._absent] = -np.inf
        k = min(k, len(cosines) - len(self._absent))
        # Only the best are sorted.
        best = np.argpartition(-cosines, k - 1)[:k] if 0 < k < len(cosines) else np.arange(len(cosines))
        rows = best[np.lexsort((best, -cosines[best]))][:k]
        return rows, cosines[rows]


def unit(vector: NDArray[np.floating[Any]]) -> NDArray[np.float32] | None:
    """The vector with length 1, float32 (256,); None where it is zero or not finite, and so has no direction."""
    exact = vector.astype(np.float64)
    largest = np.abs(exact).max()
    if not np.isfinite(largest) or largest == 0:
        return None
    exact /= largest  # or else the squares of a huge one are infinite
    return (exact / np.linalg.norm(exact)).astype(np.float32)


def normalise(vectors: NDArray[np.float32]) -> None:
    """Give vectors (N, 256) length 1, in place; those without a direction become zeros."""
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    absent = ~(np.isfinite(lengths) & (lengths > 0))
    vectors[absent] = 0
    lengths[absent] = 1
    vectors /= lengths[:, None]
