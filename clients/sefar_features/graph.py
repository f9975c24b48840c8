"""usearch's graph of neighbours in a file: made once, then it finds most of the nearest without reading the rest."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import FeaturesError
from .nearest import normalise
from .shards import Shard


class GraphIndex:
    """An `Index` that misses a neighbour now and then; made by `open_graph`."""

    def __init__(self, graph: Any) -> None:
        self._graph = graph

    def search(self, query: NDArray[np.float32], k: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """See `Index`."""
        found = self._graph.search(query, min(k, len(self._graph)))
        return np.asarray(found.keys).astype(np.intp), 1 - np.asarray(found.distances, np.float32)


def graph_file(folder: Path, shards: Sequence[Shard]) -> Path:
    """Where the graph of just these shards is, or would be: shards that change have another."""
    state = hashlib.sha256(repr([shard.state for shard in shards]).encode())
    return folder / f".nearest-{state.hexdigest()[:16]}.usearch"


def open_graph(file: Path, rows: int, width: int) -> GraphIndex | None:
    """A graph whose pages are read as searches need them.

    Args:
        file: of `build_graph`.
        rows: of the features; the graph may lack some, which have no direction.
        width: of their embeddings.

    Returns:
        None where there is no such file, it is damaged or of other features, or usearch is not installed.
    """
    if not file.is_file():
        return None
    try:
        graph = _empty(width)
    except ModuleNotFoundError:
        return None
    try:
        graph.view(str(file))
    except RuntimeError:  # cut off, empty, or something else
        return None
    return GraphIndex(graph) if 0 < len(graph) <= rows and graph.ndim == width else None


def build_graph(
    pieces: Iterable[NDArray[np.float32]],
    rows: int,
    width: int,
    file: Path,
    on_progress: Callable[[int, int], None] | None,
) -> None:
    """Write the file of a graph, whole or not at all; others may do the same meanwhile.

    Args:
        pieces: float32 (n, `width`), which this changes; together the vectors of all rows.
        rows: how many these are.
        width: of a vector.
        file: what to write.
        on_progress: called after each piece with the number of rows that are done, and of all.

    Raises:
        FeaturesError: usearch is not installed, or the folder cannot be written to.
    """
    try:
        graph = _empty(width)
    except ModuleNotFoundError as error:
        raise FeaturesError("a graph needs usearch; pip install 'sefar-serve[search]'") from error
    # Others may build it at the same time, each into a file of its own.
    new = file.with_name(f"{file.name}.{os.getpid()}-{secrets.token_hex(4)}.new")
    try:
        new.touch(exist_ok=False)  # to be refused after minutes of work would be a pity
    except OSError as error:
        raise _refused(file.parent, error) from error
    try:
        done = 0
        for piece in pieces:
            normalise(piece)
            directed = np.flatnonzero(piece.any(axis=1))
            if len(directed):
                graph.add(done + directed, piece[directed])
            done += len(piece)
            if on_progress is not None:
                on_progress(done, rows)
        try:
            graph.save(str(new))
            new.replace(file)
        except (OSError, RuntimeError) as error:
            raise _refused(file.parent, error) from error
    finally:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)


def _refused(folder: Path, error: Exception) -> FeaturesError:
    return FeaturesError(
        f"no graph can be kept in {folder} ({error}); make room or ask for leave to write there, or do without: "
        "`similar` compares every clip then"
    )


def _empty(width: int) -> Any:
    from usearch.index import Index as Graph

    # Rows are looked up by their numbers in the shards, not in the graph.
    return Graph(ndim=width, metric="ip", dtype="f32", enable_key_lookups=False)
