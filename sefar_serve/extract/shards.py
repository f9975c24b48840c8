"""The output folder of a run: shards, each written atomically, and a manifest that describes them.

A shard exists once its Parquet file has its final name. In every format that file is written last.
"""

from __future__ import annotations

import fcntl
import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError

from sefar_serve import __version__
from sefar_serve.atomic import atomic_file
from sefar_serve.extract.clips import ClipRef, ExtractError, MixedModelError, OutputBusyError, unwritable
from sefar_serve.extract.rows import ClipRow, RowOptions, table
from sefar_serve.extract.vectors import replace_vectors, vector_files, write_vectors
from sefar_serve.metadata import ModelMetadata

MANIFEST = "_manifest.json"
_SHARD = re.compile(r"part-([0-9]{6,})\.parquet")


class ModelIdentity(BaseModel):
    """Which model made the features.

    Attributes:
        name: name of the model.
        version: version of its weights.
        sha256: SHA-256 of the ONNX file; None if a server runs the model.
        embedding_dim: width of the embeddings.
        elements: number of temporal elements, one token each.
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
        """Take the identity from the metadata of a model."""
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
    """SHA-256 of a model file in hexadecimal, as in `ModelIdentity`."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


class Manifest(BaseModel):
    """Description of a folder of features, in `_manifest.json`.

    Attributes:
        format: version of this layout.
        sefar_serve: version of sefar-serve that created the folder.
        model: the model that made the features.
        settings: the `RowOptions` of all rows.
        source: source of the last run.
        clips: number of rows.
        failed: number of rows that are errors.
        shards: number of Parquet files.
        complete: whether the last run finished.
        created: when the first run started, ISO 8601, UTC.
        updated: when the manifest was written.
    """

    format: Literal[1] = 1
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


def saved_clips(folder: Path) -> int:
    """Number of rows in a folder of features, as its manifest says; 0 if it has none.

    Raises:
        ValueError: the manifest is not one.
    """
    try:
        return Manifest.model_validate_json((folder / MANIFEST).read_bytes()).clips
    except FileNotFoundError:
        return 0


class Shards:
    """A folder of features, locked by one run. Made by `open_shards`.

    Attributes:
        folder: the folder.
        manifest: the manifest as last written.
    """

    def __init__(self, folder: Path, meta: ModelMetadata, options: RowOptions, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest
        self._meta = meta
        self._options = options

    def numbers(self) -> list[int]:
        """Numbers of the existing shards, in order."""
        return sorted(int(found[1]) for file in self.folder.iterdir() if (found := _SHARD.fullmatch(file.name)))

    def rows(self, shard: int) -> list[tuple[ClipRef, str | None]]:
        """Read clip and error code of each row of a shard; the code is None if the clip did not fail.

        Raises:
            ExtractError: the file is damaged, or a file that belongs to it is missing.
        """
        file = self._path(shard)
        for beside in vector_files(file.with_suffix(""), self._options):
            if not beside.is_file():
                raise ExtractError(
                    f"{beside} is missing; copy it back, or delete {file.name} so that the next run redoes its clips"
                )
        try:
            found = pq.read_table(file, columns=["id", "path", "start", "end", "error_code"])
        except (pa.ArrowException, OSError) as error:
            raise ExtractError(
                f"{file} cannot be read as a shard ({error}); move it away so that the next run redoes its clips"
            ) from error
        columns = (column.to_pylist() for column in found.columns)
        return [(ClipRef(id_, path, start, end), code) for id_, path, start, end, code in zip(*columns, strict=True)]

    def commit(self, shard: int, rows: Sequence[ClipRow]) -> None:
        """Write a new shard.

        Args:
            shard: an unused number.
            rows: the rows, in their final order.
        """
        with self._translate_errors():
            write_vectors(self._path(shard).with_suffix(""), rows, self._meta, self._options)
            self._write(shard, table(rows, self._meta, self._options))

    def replace(self, shard: int, rows: Sequence[ClipRow]) -> None:
        """Replace the rows that have the same ids.

        Args:
            shard: number of an existing shard.
            rows: new rows of clips that it holds.

        Raises:
            ExtractError: a file that belongs to the shard is damaged.
        """
        with self._translate_errors():
            old = pq.read_table(self._path(shard))
            place = {id_: n for n, id_ in enumerate(old["id"].to_pylist())}
            places = [place[row.clip.id] for row in rows]
            good = pc.indices_nonzero(old["error_code"].is_null()).to_pylist()
            replace_vectors(
                self._path(shard).with_suffix(""), dict(zip(places, rows, strict=True)), good, self._options
            )
            order = list(range(len(old)))
            for n, at in enumerate(places):
                order[at] = len(old) + n
            new = table(rows, self._meta, self._options)
            self._write(shard, pa.concat_tables([old.cast(new.schema), new]).take(pa.array(order)))

    def describe(self, **changes: Any) -> None:
        """Update the manifest.

        Args:
            changes: fields of `Manifest` and their new values.
        """
        self.manifest = self.manifest.model_copy(update={**changes, "updated": _now()})
        with self._translate_errors(), atomic_file(self.folder / MANIFEST) as new:
            new.write_text(self.manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")

    def _write(self, shard: int, rows: pa.Table) -> None:
        with atomic_file(self._path(shard)) as new:
            # Vectors do not repeat, so dictionary encoding would make files 1.5 times as large.
            plain = [name for name in rows.schema.names if name not in ("embedding", "tokens", "poses", "presence")]
            pq.write_table(rows, new, compression="zstd", use_dictionary=plain)

    def _path(self, shard: int) -> Path:
        return self.folder / f"part-{shard:06d}.parquet"

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise unwritable(self.folder, error) from error


@contextmanager
def open_shards(folder: Path, meta: ModelMetadata, sha256: str | None, options: RowOptions) -> Iterator[Shards]:
    """Lock a folder of features for one run, and create it if it is missing.

    Args:
        folder: the folder.
        meta: metadata of the model that makes the features.
        sha256: SHA-256 of the model file; None if a server runs the model.
        options: row contents.

    Raises:
        OutputBusyError: another run is writing there.
        MixedModelError: it holds features from another model, or made with other settings.
        ExtractError: it is not a folder of features, or cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise ExtractError(f"{folder} is a file; --out takes a folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise unwritable(folder, error) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputBusyError(f"another run is writing to {folder}; wait for it, or use another --out") from error
        except OSError as error:
            raise unwritable(folder, error) from error
        for leftover in folder.glob(".part-*.new"):  # left by a killed run
            leftover.unlink()
        model, settings = ModelIdentity.of(meta, sha256), _settings(options)
        manifest = _read_manifest(folder)
        if manifest is None:
            manifest = Manifest(model=model, settings=settings, created=_now(), updated=_now())
        else:
            _check_same(folder, manifest, model, settings)
        yield Shards(folder, meta, options, manifest)


def _settings(options: RowOptions) -> dict[str, Any]:
    return asdict(options)


def _read_manifest(folder: Path) -> Manifest | None:
    file = folder / MANIFEST
    if not file.is_file():
        if any(_SHARD.fullmatch(other.name) for other in folder.iterdir()):
            raise MixedModelError(
                f"{folder} holds shards but no {MANIFEST} that says which model made them; copy it back, or use "
                "another --out"
            )
        return None
    try:
        return Manifest.model_validate_json(file.read_bytes())
    except ValidationError as error:
        where, why = ".".join(map(str, error.errors()[0]["loc"])), error.errors()[0]["msg"]
        raise ExtractError(
            f"{file} is not a manifest of features that this version reads ({where or 'the file'}: {why}); copy it "
            "back, or use another --out"
        ) from error


def _check_same(folder: Path, manifest: Manifest, model: ModelIdentity, settings: dict[str, Any]) -> None:
    there = manifest.model.model_dump() | {"poses": False} | manifest.settings
    here = model.model_dump() | settings
    # A server does not say which file it runs, so only name, version and shapes are compared.
    if manifest.model.sha256 is None or model.sha256 is None:
        here["sha256"] = there["sha256"]
    for name, value in here.items():
        if value != there.get(name):
            difference = "other labels" if name == "labels" else f"{name} {there.get(name)!r}, not {value!r}"
            raise MixedModelError(
                f"{folder} holds features of {manifest.model.name}, version {manifest.model.version}, with "
                f"{difference}; use the same model and settings, or use another --out"
            )


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
