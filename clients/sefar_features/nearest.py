"""Nearest neighbours by cosine: usearch where it is installed, every clip in turn where it is not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .errors import FeaturesError

ROWS_AT_ONCE = 65_536


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

    def search(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """Rows and cosines (Q, k), the nearest first; `queries` is (Q, 256), of length 1 each."""


class ExactIndex:
    """Looks at every row.

    Args:
        units: float32 (N, 256), of length 1 each.
    """

    def __init__(self, units: NDArray[np.float32]) -> None:
        self._units = units

    def search(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """See `Index`."""
        rows = np.zeros((len(queries), 0), np.intp)
        cosines = np.zeros((len(queries), 0), np.float32)
        # In pieces: the cosines of all rows with all queries may not fit.
        for begin in range(0, len(self._units), ROWS_AT_ONCE):
            piece = queries @ self._units[begin : begin + ROWS_AT_ONCE].T
            cosines = np.concatenate([cosines, piece], axis=1)
            here = np.broadcast_to(np.arange(begin, begin + piece.shape[1]), piece.shape)
            rows = np.concatenate([rows, here], axis=1)
            best = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
            rows, cosines = np.take_along_axis(rows, best, 1), np.take_along_axis(cosines, best, 1)
        return rows, cosines


class ApproximateIndex:
    """usearch's HNSW graph, kept in a file.

    Args:
        units: float32 (N, 256), of length 1 each.
        file: read if it is there, written if not.

    Raises:
        ModuleNotFoundError: usearch is not installed.
    """

    def __init__(self, units: NDArray[np.float32], file: Path) -> None:
        from usearch.index import Index as Graph

        self._graph = Graph(ndim=units.shape[1], metric="ip", dtype="f32")
        if file.is_file():
            self._graph.load(str(file))
            return
        self._graph.add(np.arange(len(units)), units)
        new = file.with_name(f".{file.name}.new")
        self._graph.save(str(new))
        new.replace(file)

    def search(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """See `Index`."""
        found = self._graph.search(queries, k)
        keys = np.asarray(found.keys).reshape(len(queries), -1).astype(np.intp)
        return keys, 1 - np.asarray(found.distances, np.float32).reshape(len(queries), -1)


def units(vectors: NDArray[np.float32], what: str) -> NDArray[np.float32]:
    """The vectors with length 1.

    Args:
        vectors: float32 (N, 256).
        what: they are, for the message.

    Raises:
        FeaturesError: one has no direction.
    """
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not (np.isfinite(lengths) & (lengths > 0)).all():
        row = int(np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))[0])
        raise FeaturesError(f"{what} {row} is zero or not finite, and so has no direction; leave it out")
    found: NDArray[np.float32] = (vectors / lengths).astype(np.float32)
    return found
