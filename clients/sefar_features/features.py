"""A folder of features: cheap to open, and read only as far as needed."""

from __future__ import annotations

import contextlib
import html
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from .errors import FeaturesError
from .graph import GraphIndex, build_graph, graph_file, open_graph
from .manifest import read_manifest
from .nearest import ExactIndex, Index, Match, normalise, unit
from .poses import PoseDescription, pose_description
from .shards import Shard, shard_files
from .vectors import Vectors, rows_of_lists, shard_vectors

if TYPE_CHECKING:
    from .torch_data import FeatureDataset


def open_features(folder: str | Path) -> Features:
    """Open the output of `sefar extract`, even if its run is not finished or was killed.

    Args:
        folder: folder with `_manifest.json` and the shards.

    Raises:
        FeaturesError: it is not such a folder, is damaged, is from a newer sefar-serve, or has no shards yet.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    shards = shard_files(folder)
    if not shards:
        raise FeaturesError(f"{folder} has no shards yet; let `sefar extract` run longer, or lower its --shard-rows")
    return Features(folder, manifest, shards)


class Features:
    """The rows of a folder, as they were when it was opened. Made by `open_features`.

    `ids`, `embeddings()`, `tokens()`, `poses()`, `presence()`, `table()` and the dataset have the good rows in the
    order of the shards. Shards that are added later are ignored. Reading a shard that was replaced or is damaged
    raises `FeaturesError`.

    Attributes:
        folder: the folder.
        manifest: description of the run: model, settings, source, counts.
        shards: the Parquet files, in order.
    """

    def __init__(self, folder: Path, manifest: dict[str, Any], shards: Sequence[Path]) -> None:
        self.folder = folder
        self.manifest = manifest
        self.shards = shards
        self._shards = [Shard(file) for file in shards]
        self._graph_file = graph_file(folder, self._shards)
        self._graph: GraphIndex | None = None

    def __len__(self) -> int:
        """Number of good rows."""
        return int(self._ends[-1])

    def __repr__(self) -> str:
        return f"<Features {self.folder}: {self._about()}>"

    def _repr_html_(self) -> str:
        return f"<b>{html.escape(str(self.folder))}</b>: {html.escape(self._about())}"

    def _about(self) -> str:
        failed = sum(len(shard.good) for shard in self._shards) - len(self)
        model = self.manifest["model"]
        return (
            f"{len(self):,} clips, {failed:,} failed, model {model['name']} {model['version']}, "
            f"embeddings of {model['embedding_dim']}, {'complete' if self.manifest['complete'] else 'not complete'}"
        )

    @cached_property
    def columns(self) -> list[str]:
        """Names of the Parquet columns."""
        return self._shards[0].names()

    @cached_property
    def ids(self) -> list[str]:
        """Ids of the good rows."""
        ids: list[str] = self.table(["id"])["id"].to_pylist()
        return ids

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Read the good rows.

        Args:
            columns: names of the columns to read; None for all.

        Raises:
            FeaturesError: a column does not exist, or the list is empty.
        """
        known = self._known(columns)
        return pa.concat_tables(shard.table(known, shard.good) for shard in self._shards)

    def batches(self, columns: Sequence[str] | None = None, size: int = 4096) -> Iterator[pa.RecordBatch]:
        """Read the good rows in batches, so that memory stays flat.

        Args:
            columns: names of the columns to read; None for all.
            size: maximum number of rows in a batch, 1 or more.

        Raises:
            FeaturesError: a column does not exist, the list is empty, or `size` is below 1.
        """
        known = self._known(columns)
        if size < 1:
            raise FeaturesError(f"size is {size}; it must be 1 or more")
        return (batch for shard in self._shards for batch in shard.batches(known, shard.good, size))

    def failures(self) -> pa.Table:
        """Clips that failed: id, path, error_code, error."""
        columns = ["id", "path", "error_code", "error"]
        return pa.concat_tables(shard.table(columns, ~shard.good) for shard in self._shards)

    def embeddings(self) -> NDArray[np.float32]:
        """Embeddings of the good rows, in the order of `ids`: float32 (N, 256)."""
        return self._filled("embedding")

    def tokens(self) -> Iterator[Vectors]:
        """Tokens of the good rows, as one array (n, E, D) per shard: one per temporal element, the context last.

        Raises:
            FeaturesError: the features were extracted without `--tokens`.
        """
        if not self.manifest["settings"]["tokens"]:
            raise FeaturesError(f"{self.folder} has no tokens; extract them with `sefar extract --tokens`")
        return self._vectors("tokens")

    @cached_property
    def pose_description(self) -> PoseDescription:
        """What `poses()` gives: shape, names of the joints, and the estimator that found them.

        Raises:
            FeaturesError: the features were extracted without `--poses`.
        """
        return pose_description(self._shards[0].metadata(), self.shards[0])

    def poses(self) -> Iterator[Vectors]:
        """Joints of the good rows, as one array (n, F, P, J, 4) per shard: x, y, z in metres and visibility.

        Raises:
            FeaturesError: the features were extracted without `--poses`.
        """
        _ = self.pose_description  # fail before the first shard
        return self._vectors("poses")

    def presence(self) -> NDArray[np.float32]:
        """How sure the estimator is of each person in each frame, float32 (N, F, P); joints at 0 are interpolated.

        Raises:
            FeaturesError: the features were extracted without `--poses`.
        """
        frames, persons = self.pose_description.shape[:2]
        found = rows_of_lists(self.table(["presence"])["presence"].combine_chunks())
        return found.astype(np.float32).reshape(-1, frames, persons)

    def torch_dataset(self, *, tokens: bool = False) -> FeatureDataset:
        """The good rows as a map-style `torch.utils.data.Dataset`, held in memory.

        Args:
            tokens: whether items include the tokens.

        Raises:
            ModuleNotFoundError: torch is not installed.
            FeaturesError: `tokens` is true, but the features have none.
        """
        from .torch_data import FeatureDataset

        if tokens:
            self.tokens()  # fail early if there are none
        return FeatureDataset(
            self.ids,
            self.table(["labels"])["labels"].to_pylist(),
            self.embeddings(),
            self._filled("tokens") if tokens else None,
        )

    def similar(self, query: str | NDArray[np.floating[Any]], k: int = 10, *, exact: bool = False) -> list[Match]:
        """Find the clips nearest to one, by the cosine of their embeddings.

        By default every clip is compared, with all embeddings in memory. If `build_index` has made a graph, that is
        searched instead, which misses a neighbour now and then. A clip whose embedding is zero or not finite is never
        found.

        Args:
            query: id of a clip of these features, which is then left out; or an embedding (256,).
            k: maximum number of matches, 1 or more.
            exact: compare every clip even if there is a graph.

        Returns:
            The matches, nearest first; fewer than `k` if there are not enough clips.

        Raises:
            FeaturesError: `k` is below 1, no good row has the id, or the vector has the wrong width, is zero or is not
                finite.
        """
        if k < 1:
            raise FeaturesError(f"k is {k}; it must be 1 or more")
        row, vector = self._clip_query(query) if isinstance(query, str) else (-1, self._vector_query(query))
        index: Index = (None if exact else self._opened_graph()) or self._exact
        rows, cosines = index.search(vector, k + 1)
        found = [(int(at), float(cosine)) for at, cosine in zip(rows, cosines, strict=True) if at != row][:k]
        return [
            Match(clip["id"], clip["path"], min(1.0, max(-1.0, cosine)), clip["labels"][0])
            for clip, (_, cosine) in zip(self._clips([at for at, _ in found]), found, strict=True)
        ]

    def build_index(self, on_progress: Callable[[int, int], None] | None = None) -> None:
        """Build the graph that `similar` then searches, also in other processes. It takes minutes.

        It is stored next to the shards, is valid only for these shards as they are, and replaces older graphs. If it
        already exists, nothing is done.

        Args:
            on_progress: called from time to time with the number of clips done and the total.

        Raises:
            FeaturesError: usearch is not installed (``pip install 'sefar-serve[search]'``), or the folder cannot be
                written to.
        """
        if self._opened_graph() is not None:
            return
        pieces = (vectors.astype(np.float32) for vectors in self._vectors("embedding"))
        build_graph(pieces, len(self), self._shape("embedding")[0], self._graph_file, on_progress)
        for old in set(self.folder.glob(".nearest-*.usearch")) - {self._graph_file}:
            with contextlib.suppress(OSError):
                old.unlink()

    def _clip_query(self, query: str) -> tuple[int, NDArray[np.float32]]:
        """Row and unit vector of a clip; only its shard is read."""
        row = self._rows.get(query)
        if row is None:
            raise FeaturesError(f"no good row has the id {query!r}; see `.ids`, or `.failures()` for clips that failed")
        shard, at = self._place(row)
        vector = unit(self._shard_vectors(shard, "embedding")[at])
        if vector is None:
            raise FeaturesError(
                f"the embedding of {query!r} is zero or not finite, so it has no direction; query another clip"
            )
        return row, vector

    def _vector_query(self, query: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        try:
            vector = np.asarray(query, np.float64)
        except (TypeError, ValueError) as error:
            raise FeaturesError(f"the query is neither an id nor an array of numbers: {error}") from error
        if vector.shape != self._shape("embedding"):
            raise FeaturesError(f"the query has shape {vector.shape}; embeddings have shape {self._shape('embedding')}")
        found = unit(vector)
        if found is None:
            raise FeaturesError("the query is zero or not finite, so it has no direction; use another vector")
        return found

    def _clips(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        """Id, path and labels of good rows; only their shards are read."""
        places = [self._place(row) for row in rows]
        tables = {shard: shard.table(["id", "path", "labels"], shard.good) for shard in {shard for shard, _ in places}}
        return [tables[shard].slice(at, 1).to_pylist()[0] for shard, at in places]

    def _place(self, row: int) -> tuple[Shard, int]:
        """The shard of a good row, and its index among the good rows of the shard."""
        number = int(np.searchsorted(self._ends, row, side="right"))
        shard = self._shards[number]
        return shard, row - int(self._ends[number]) + int(shard.good.sum())

    @cached_property
    def _ends(self) -> NDArray[np.intp]:
        """Number of good rows up to the end of each shard."""
        return np.cumsum([shard.good.sum() for shard in self._shards], dtype=np.intp)

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {id_: row for row, id_ in enumerate(self.ids)}

    @cached_property
    def _exact(self) -> Index:
        units = self.embeddings()
        normalise(units)
        return ExactIndex(units)

    def _opened_graph(self) -> GraphIndex | None:
        # Checked again until there is one, because another process may build it.
        if self._graph is None:
            self._graph = open_graph(self._graph_file, len(self), self._shape("embedding")[0])
        return self._graph

    def _filled(self, name: str) -> NDArray[np.float32]:
        """The vectors of all good rows in one array."""
        array = np.empty((len(self), *self._shape(name)), np.float32)
        begin = 0
        for vectors in self._vectors(name):
            array[begin : begin + len(vectors)] = vectors
            begin += len(vectors)
        return array

    def _vectors(self, name: str) -> Iterator[Vectors]:
        return (self._shard_vectors(shard, name) for shard in self._shards if shard.good.any())

    def _shard_vectors(self, shard: Shard, name: str) -> Vectors:
        return shard_vectors(shard, name, self._shape(name), self.manifest["settings"]["format"])

    def _shape(self, name: str) -> tuple[int, ...]:
        """Shape of one vector."""
        model = self.manifest["model"]
        if name == "poses":
            return self.pose_description.shape
        return (model["embedding_dim"],) if name == "embedding" else (model["elements"], model["token_dim"])

    def _known(self, columns: Sequence[str] | None) -> list[str] | None:
        if isinstance(columns, str):
            raise FeaturesError(f"columns is a string; give a list of names: [{columns!r}]")
        if columns is not None and not columns:
            raise FeaturesError("columns is an empty list; give at least one name, or leave it out to get all columns")
        unknown = [name for name in columns or () if name not in self.columns]
        if unknown:
            raise FeaturesError(f"no column {unknown[0]!r}; the columns are {', '.join(self.columns)}")
        return None if columns is None else list(columns)
