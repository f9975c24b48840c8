"""The folder that a run writes: one shard after the other, each whole or not at all, and a manifest about them.

A shard counts once its Parquet file has its name; whatever the format, that file is written last.
"""

from __future__ import annotations

import fcntl
import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError

from sefar_serve import __version__
from sefar_serve.extract.clips import ExtractError, MixedModelError, OutputBusyError
from sefar_serve.extract.rows import ClipRow, RowOptions, table
from sefar_serve.extract.vectors import write_vectors
from sefar_serve.folders import file_written_whole
from sefar_serve.metadata import ModelMetadata

MANIFEST = "_manifest.json"
_SHARD = re.compile(r"part-([0-9]{6,})\.parquet")


class ModelIdentity(BaseModel):
    """Which model made the features.

    Attributes:
        name: of the model.
        version: of its weights.
        sha256: of the ONNX file; None where a server runs it.
        embedding_dim: width of the embeddings.
        elements: temporal elements, a token each.
        token_dim: width of the tokens.
        labels: class names.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    version: str
    sha256: str | None
    embedding_dim: int
    elements: int
    token_dim: int
    labels: tuple[str, ...]

    @classmethod
    def of(cls, meta: ModelMetadata, sha256: str | None) -> ModelIdentity:
        """From a model's own description."""
        return cls(
            name=meta.name,
            version=meta.version,
            sha256=sha256,
            embedding_dim=meta.embedding_dim,
            elements=len(meta.sample_frames),
            token_dim=meta.token_dim,
            labels=meta.labels,
        )


def model_sha256(file: Path) -> str:
    """What `ModelIdentity` says of a model's file, in hexadecimal."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


class Manifest(BaseModel):
    """What a folder of features says of itself.

    Attributes:
        format: version of this layout.
        sefar_serve: version of the software that began it.
        model: which made the features.
        settings: of `RowOptions`, the same for all rows.
        source: what the last run was pointed at.
        clips: rows.
        failed: of them, errors.
        shards: Parquet files.
        complete: whether the last run got to its end.
        created: when the first run began, ISO 8601, UTC.
        updated: when this was written.
    """

    format: int = 1
    sefar_serve: str = __version__
    model: ModelIdentity
    settings: dict[str, Any]
    source: str = ""
    clips: int = 0
    failed: int = 0
    shards: int = 0
    complete: bool = False
    created: datetime
    updated: datetime


class Shards:
    """A folder of features that one run has to itself; made by `open_shards`.

    Attributes:
        folder: where they are.
        manifest: as written last.
    """

    def __init__(self, folder: Path, meta: ModelMetadata, options: RowOptions, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest
        self._meta = meta
        self._options = options

    def numbers(self) -> list[int]:
        """Numbers of the shards that are there, in order."""
        return sorted(int(found[1]) for file in self.folder.iterdir() if (found := _SHARD.fullmatch(file.name)))

    def rows(self, shard: int) -> list[tuple[str, bool]]:
        """Ids of a shard's rows, and whether each is an error.

        Raises:
            ExtractError: the file is damaged.
        """
        try:
            found = pq.read_table(self._path(shard), columns=["id", "error_code"])
        except (pa.ArrowException, OSError) as error:
            raise ExtractError(
                f"{self._path(shard)} cannot be read ({error}); delete it, and the next run makes its clips again"
            ) from error
        return list(zip(found["id"].to_pylist(), pc.is_valid(found["error_code"]).to_pylist(), strict=True))

    def commit(self, shard: int, rows: Sequence[ClipRow]) -> None:
        """Write a new shard.

        Args:
            shard: a number that is free.
            rows: in the order they are to have.
        """
        write_vectors(self._path(shard).with_suffix(""), rows, self._meta, self._options, None)
        self._write(shard, table(rows, self._meta, self._options))

    def replace(self, shard: int, rows: Sequence[ClipRow]) -> None:
        """Put rows in the place of those of the same ids.

        Args:
            shard: one that is there.
            rows: of clips that it holds.
        """
        old = pq.read_table(self._path(shard))
        place = {id_: n for n, id_ in enumerate(old["id"].to_pylist())}
        places = [place[row.clip.id] for row in rows]
        write_vectors(self._path(shard).with_suffix(""), rows, self._meta, self._options, places)
        order = list(range(len(old)))
        for n, at in enumerate(places):
            order[at] = len(old) + n
        new = table(rows, self._meta, self._options)
        self._write(shard, pa.concat_tables([old.cast(new.schema), new]).take(pa.array(order)))

    def describe(self, **changes: Any) -> None:
        """Write the manifest anew.

        Args:
            changes: fields of `Manifest`.
        """
        self.manifest = self.manifest.model_copy(update={**changes, "updated": _now()})
        with file_written_whole(self.folder / MANIFEST) as new:
            new.write_text(self.manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")

    def _write(self, shard: int, rows: pa.Table) -> None:
        with file_written_whole(self._path(shard)) as new:
            pq.write_table(rows, new, compression="zstd")

    def _path(self, shard: int) -> Path:
        return self.folder / f"part-{shard:06d}.parquet"


def failures(folder: Path) -> dict[str, int]:
    """How many clips of a folder of features failed, by error code, the most frequent first."""
    codes: Counter[str] = Counter()
    for file in folder.glob("part-*.parquet"):
        found = pq.read_table(file, columns=["error_code"])["error_code"]
        codes.update({count["values"].as_py(): count["counts"].as_py() for count in found.drop_null().value_counts()})
    return dict(codes.most_common())


@contextmanager
def open_shards(folder: Path, meta: ModelMetadata, sha256: str | None, options: RowOptions) -> Iterator[Shards]:
    """Take a folder for one run, made if it is not there.

    Args:
        folder: of features.
        meta: of the model that is to make them.
        sha256: of its file, where it has one.
        options: what rows hold.

    Raises:
        OutputBusyError: another run writes there.
        MixedModelError: it holds features of another model, or made with other settings.
        ExtractError: it is no folder of features.
    """
    if folder.exists() and not folder.is_dir():
        raise ExtractError(f"{folder} is a file; --out takes a folder")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputBusyError(f"another run writes to {folder}; wait for it, or take another --out") from error
        for leftover in folder.glob(".part-*.new"):  # of a run that was killed
            leftover.unlink()
        model, settings = ModelIdentity.of(meta, sha256), _settings(options)
        manifest = _read_manifest(folder)
        if manifest is None:
            manifest = Manifest(model=model, settings=settings, created=_now(), updated=_now())
        else:
            _check_same(folder, manifest, model, settings)
        yield Shards(folder, meta, options, manifest)


def _settings(options: RowOptions) -> dict[str, Any]:
    return {"format": options.format, "tokens": options.tokens, "dtype": options.dtype, "top_k": options.top_k}


def _read_manifest(folder: Path) -> Manifest | None:
    file = folder / MANIFEST
    if not file.is_file():
        if any(_SHARD.fullmatch(other.name) for other in folder.iterdir()):
            raise MixedModelError(
                f"{folder} holds shards but no {MANIFEST} that says which model made them; take another --out"
            )
        return None
    try:
        return Manifest.model_validate_json(file.read_bytes())
    except ValidationError as error:
        raise ExtractError(f"{file} is not a manifest of features: {error}; take another --out") from error


def _check_same(folder: Path, manifest: Manifest, model: ModelIdentity, settings: dict[str, Any]) -> None:
    there = manifest.model.model_dump() | manifest.settings
    here = model.model_dump() | settings
    # Where a server runs the model, nothing tells what file it is; name, version and shapes have to do.
    if manifest.model.sha256 is None or model.sha256 is None:
        here["sha256"] = there["sha256"]
    for name, value in here.items():
        if value != there.get(name):
            shown = f"{there.get(name)!r}, not {value!r}" if name != "labels" else "others"
            raise MixedModelError(
                f"{folder} holds features of {manifest.model.name}, version {manifest.model.version}, with {name} "
                f"{shown}; use the same model and settings, or take another --out"
            )


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
