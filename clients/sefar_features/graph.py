"""A usearch graph in a file: built once, it finds most nearest neighbours without reading the other clips."""

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
    """An approximate `Index`, which misses a neighbour now and then. Made by `open_graph`."""

    def __init__(self, graph: Any) -> None:
        self._graph = graph

    def search(self, query: NDArray[np.float32], k: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """See `Index`."""
        found = self._graph.search(query, min(k, len(self._graph)))
        return np.asarray(found.keys).astype(np.intp), 1 - np.asarray(found.distances, np.float32)


def graph_file(folder: Path, shards: Sequence[Shard]) -> Path:
    """Path of the graph of exactly these shards. If they change, so does the path."""
    state = hashlib.sha256(repr([shard.state for shard in shards]).encode())
    return folder / f".nearest-{state.hexdigest()[:16]}.usearch"


def open_graph(file: Path, rows: int, width: int) -> GraphIndex | None:
    """Open a graph, whose pages are read as searches need them.

    Args:
        file: file that `build_graph` wrote.
        rows: number of rows of the features; those without a direction are not in the graph.
        width: width of the embeddings.

    Returns:
        The graph; None if the file is missing, damaged or of other features, or usearch is not installed.
    """
    if not file.is_file():
        return None
    try:
        graph = _empty(width)
    except ModuleNotFoundError:
        return None
    try:
        graph.view(str(file))
    except RuntimeError:  # truncated, empty, or not a graph
        return None
    return GraphIndex(graph) if 0 < len(graph) <= rows and graph.ndim == width else None


def build_graph(
    pieces: Iterable[NDArray[np.float32]],
    rows: int,
    width: int,
    file: Path,
    on_progress: Callable[[int, int], None] | None,
) -> None:
    """Write the file of a graph atomically. Other processes may do the same at the same time.

    Args:
        pieces: float32 arrays (n, `width`), changed in place; together the vectors of all rows.
        rows: total number of rows.
        width: width of a vector.
        file: file to write.
        on_progress: called after each piece with the number of rows done and the total.

    Raises:
        FeaturesError: usearch is not installed, or the folder cannot be written to.
    """
    try:
        graph = _empty(width)
    except ModuleNotFoundError as error:
        raise FeaturesError("a graph needs usearch; run: pip install 'sefar-serve[search]'") from error
    # Other processes may build it at the same time, each in its own file.
    new = file.with_name(f"{file.name}.{os.getpid()}-{secrets.token_hex(4)}.new")
    try:
        new.touch(exist_ok=False)  # fail now, not after minutes of work
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
        f"cannot write a graph to {folder} ({error}). Free disk space or get write permission. Without a graph, "
        "`similar` compares every clip"
    )


def _empty(width: int) -> Any:
    from usearch.index import Index as Graph

    # Rows are looked up by their numbers in the shards, not in the graph.
    return Graph(ndim=width, metric="ip", dtype="f32", enable_key_lookups=False)
