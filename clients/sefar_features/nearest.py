"""Nearest neighbours by cosine: the interface of a search, and exact search, which compares every clip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Match:
    """A clip that is near the query.

    Attributes:
        id: id of the clip.
        path: path of its video.
        score: cosine of the two embeddings, −1 to 1.
        label: the model's best class for the clip.
    """

    id: str
    path: str
    score: float
    label: str


class Index(Protocol):
    """Finds rows by direction."""

    def search(self, query: NDArray[np.float32], k: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """Rows and cosines of at most `k` nearest rows, nearest first; `query` is float32 (256,) of length 1."""


class ExactIndex:
    """Compares every row.

    Args:
        units: float32 (N, 256) from `normalise`: rows of length 1, or zeros.
    """

    def __init__(self, units: NDArray[np.float32]) -> None:
        self._units = units
        self._absent = np.flatnonzero(~units.any(axis=1))

    def search(self, query: NDArray[np.float32], k: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """See `Index`."""
        cosines: NDArray[np.float32] = self._units @ query
        cosines[self._absent] = -np.inf
        k = min(k, len(cosines) - len(self._absent))
        # Sort only the best rows.
        best = np.argpartition(-cosines, k - 1)[:k] if 0 < k < len(cosines) else np.arange(len(cosines))
        rows = best[np.lexsort((best, -cosines[best]))][:k]
        return rows, cosines[rows]


def unit(vector: NDArray[np.floating[Any]]) -> NDArray[np.float32] | None:
    """Scale a vector to length 1, float32 (256,); None if it is zero or not finite, so it has no direction."""
    exact = vector.astype(np.float64)
    largest = np.abs(exact).max()
    if not np.isfinite(largest) or largest == 0:
        return None
    exact /= largest  # otherwise the squares of huge numbers are infinite
    return (exact / np.linalg.norm(exact)).astype(np.float32)


def normalise(vectors: NDArray[np.float32]) -> None:
    """Scale vectors (N, 256) to length 1 in place; those that are zero or not finite become zeros."""
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    absent = ~(np.isfinite(lengths) & (lengths > 0))
    vectors[absent] = 0
    lengths[absent] = 1
    vectors /= lengths[:, None]
