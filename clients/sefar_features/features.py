"""A folder of features: opened at no cost, read as far as it is asked for."""

from __future__ import annotations

import hashlib
import html
import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from numpy.typing import NDArray

from .errors import FeaturesError
from .nearest import ApproximateIndex, ExactIndex, Index, Match, units
from .vectors import Vectors, shard_vectors

if TYPE_CHECKING:
    from .torch_data import FeatureDataset

_GOOD = pc.is_null(pc.field("error_code"))


def open_features(folder: str | Path) -> Features:
    """Open what `sefar extract` wrote, also where its run has not ended or was killed.

    Args:
        folder: with `_manifest.json` and the shards.

    Raises:
        FeaturesError: it is no such folder, or holds no shard yet.
    """
    folder = Path(folder)
    file = folder / "_manifest.json"
    if not file.is_file():
        raise FeaturesError(
            f"{folder} holds no features (no {file.name}); make them with `sefar extract … --out {folder}`"
        )
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FeaturesError(f"{file} is damaged ({error}); run the same `sefar extract` again") from error
    shards = sorted(folder.glob("part-*.parquet"))
    if not shards:
        raise FeaturesError(f"{folder} has no shard yet; let `sefar extract` go on, or give it a smaller --shard-rows")
    return Features(folder, manifest, shards)


class Features:
    """The rows of a folder, as they were when it was opened. Made by `open_features`.

    Good rows stand in the order of the shards: so do `ids`, `embeddings()`, `tokens()`, `table()` and the dataset.

    Attributes:
        folder: where they are.
        manifest: what the run says of itself: model, settings, source, counts.
        shards: the Parquet files, in order.
    """

    def __init__(self, folder: Path, manifest: dict[str, Any], shards: Sequence[Path]) -> None:
        self.folder = folder
        self.manifest = manifest
        self.shards = shards
        self._dataset = ds.dataset([str(shard) for shard in shards], format="parquet")

    def __len__(self) -> int:
        """How many good rows there are."""
        return len(self.ids)

    def __repr__(self) -> str:
        return f"<Features {self.folder}: {self._about()}>"

    def _repr_html_(self) -> str:
        return f"<b>{html.escape(str(self.folder))}</b>: {html.escape(self._about())}"

    def _about(self) -> str:
        failed = sum(len(good) - int(good.sum()) for good in self._good)
        model = self.manifest["model"]
        return (
            f"{len(self):,} clips, {failed:,} failed, model {model['name']} {model['version']}, "
            f"embeddings of {model['embedding_dim']}, {'complete' if self.manifest['complete'] else 'not complete'}"
        )

    @property
    def columns(self) -> list[str]:
        """Names of the Parquet columns."""
        return list(self._dataset.schema.names)

    @cached_property
    def ids(self) -> list[str]:
        """Of the good rows."""
        ids: list[str] = self.table(["id"])["id"].to_pylist()
        return ids

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """The good rows.

        Args:
            columns: which; all if None.

        Raises:
            FeaturesError: there is no such column.
        """
        return self._dataset.to_table(columns=self._known(columns), filter=_GOOD)

    def batches(self, columns: Sequence[str] | None = None, size: int = 4096) -> Iterator[pa.RecordBatch]:
        """The good rows, a few at a time, so that memory stays flat.

        Args:
            columns: which; all if None.
            size: most rows in one.

        Raises:
            FeaturesError: there is no such column.
        """
        # One shard ahead: by default Arrow reads many.
        found = self._dataset.to_batches(
            columns=self._known(columns), filter=_GOOD, batch_size=size, batch_readahead=1, fragment_readahead=1
        )
        return (batch for batch in found if batch.num_rows)

    def failures(self) -> pa.Table:
        """Clips that failed: id, path, error_code, error."""
        return self._dataset.to_table(columns=["id", "path", "error_code", "error"], filter=~_GOOD)

    def embeddings(self) -> NDArray[np.float32]:
        """Of the good rows, in the order of `ids`: float32 (N, 256)."""
        array = np.empty((len(self), self.manifest["model"]["embedding_dim"]), np.float32)
        begin = 0
        for vectors in self._vectors("embedding"):
            array[begin : begin + len(vectors)] = vectors
            begin += len(vectors)
        return array

    def tokens(self) -> Iterator[Vectors]:
        """A token per temporal element, the context last, of the good rows: (n, E, D) shard by shard.

        Raises:
            FeaturesError: the features were made without `--tokens`.
        """
        if not self.manifest["settings"]["tokens"]:
            raise FeaturesError(f"{self.folder} has no tokens; make features with `sefar extract --tokens`")
        return self._vectors("tokens")

    def torch_dataset(self, *, tokens: bool = False) -> FeatureDataset:
        """The good rows as a map-style `torch.utils.data.Dataset`, held in memory.

        Args:
            tokens: whether items hold tokens as well.

        Raises:
            ModuleNotFoundError: torch is not installed.
            FeaturesError: tokens are asked for and there are none.
        """
        from .torch_data import FeatureDataset

        return FeatureDataset(
            self.ids,
            self.table(["labels"])["labels"].to_pylist(),
            self.embeddings(),
            np.concatenate(list(self.tokens())).astype(np.float32) if tokens else None,
        )

    def similar(self, query: str | NDArray[np.floating[Any]], k: int = 10, *, exact: bool = False) -> list[Match]:
        """The clips nearest to one, by the cosine of their embeddings.

        With usearch installed (``pip install 'sefar-serve[search]'``) a graph is searched, which is kept beside the
        shards and made again when they change; it misses a neighbour now and then. Otherwise every clip is compared.

        Args:
            query: id of a clip of these features, which is left out then; or an embedding (256,).
            k: most matches.
            exact: compare every clip even so.

        Returns:
            The nearest first; fewer than `k` where there are not so many clips.

        Raises:
            FeaturesError: there is no such clip, or the vector is of another width, zero or not finite.
        """
        if k < 1:
            raise FeaturesError(f"k is {k}; ask for one match at least")
        if isinstance(query, str):
            row = self._rows.get(query)
            if row is None:
                raise FeaturesError(f"no good row has the id {query!r}; `.ids` lists them, `.failures()` what failed")
            vector = self._units[row]
        else:
            row = -1
            vector = np.asarray(query, np.float32)
            if vector.shape != self._units.shape[1:]:
                raise FeaturesError(f"the query has shape {vector.shape}; embeddings have {self._units.shape[1:]}")
            vector = units(vector[None], "query")[0]
        rows, cosines = (self._exact if exact else self._index).search(vector[None], min(k + 1, len(self)))
        found = [(int(at), float(cosine)) for at, cosine in zip(rows[0], cosines[0], strict=True) if at != row][:k]
        about = self.table(["id", "path", "labels"]).take([at for at, _ in found]).to_pylist()
        return [
            Match(clip["id"], clip["path"], cosine, clip["labels"][0])
            for clip, (_, cosine) in zip(about, found, strict=True)
        ]

    @cached_property
    def _good(self) -> list[NDArray[np.bool_]]:
        """Of each shard, which of its rows are no errors."""
        columns = (pq.read_table(shard, columns=["error_code"])["error_code"] for shard in self.shards)
        return [column.is_null().to_numpy() for column in columns]

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {id_: row for row, id_ in enumerate(self.ids)}

    @cached_property
    def _units(self) -> NDArray[np.float32]:
        return units(self.embeddings(), "the embedding of row")

    @cached_property
    def _exact(self) -> Index:
        return ExactIndex(self._units)

    @cached_property
    def _index(self) -> Index:
        state = hashlib.sha256()
        for shard in self.shards:
            stat = shard.stat()
            state.update(f"{shard.name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
        file = self.folder / f".nearest-{state.hexdigest()[:16]}.usearch"
        try:
            index: Index = ApproximateIndex(self._units, file)
        except ModuleNotFoundError:
            return self._exact
        for old in set(self.folder.glob(".nearest-*.usearch")) - {file}:
            old.unlink(missing_ok=True)
        return index

    def _vectors(self, name: str) -> Iterator[Vectors]:
        kind = self.manifest["settings"]["format"]
        for shard, good in zip(self.shards, self._good, strict=True):
            if good.any():
                yield shard_vectors(shard, name, good, kind)

    def _known(self, columns: Sequence[str] | None) -> list[str] | None:
        unknown = [name for name in columns or () if name not in self.columns]
        if unknown:
            raise FeaturesError(f"no column {unknown[0]!r}; there are {', '.join(self.columns)}")
        return None if columns is None else list(columns)
