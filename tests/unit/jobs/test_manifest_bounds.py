"""Manifests that expand, never end or crash their reader are refused within limits."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient

from sefar_serve.api import create_app
from sefar_serve.engine import FakeEngine
from sefar_serve.extract.clips import SourceError
from sefar_serve.extract.manifests import NamedClip
from sefar_serve.jobs.errors import TooManyClipsError
from sefar_serve.jobs.manifest import ManifestLimits, ManifestTooLargeError, read_bounded
from sefar_serve.settings import Settings

MIB = 1024**2


def read(content: bytes, name: str, limits: ManifestLimits) -> list[NamedClip]:
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the reader closes it
    file.write(content)
    return list(read_bounded(file, name, limits))


def parquet(**columns: list[object]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, compression="zstd")
    return buffer.getvalue()


def bomb(cells: int = 2000, size: int = MIB) -> bytes:
    """A small Parquet file of `cells` equal texts of `size` characters."""
    names = pa.DictionaryArray.from_arrays(pa.array([0] * cells, pa.int32()), pa.array(["a" * size]))
    buffer = io.BytesIO()
    pq.write_table(pa.table({"path": names}), buffer, compression="zstd", store_schema=False)
    return buffer.getvalue()


def test_clips_arrive_as_they_were_written() -> None:
    content = parquet(path=["a.mp4", "b.mp4"], start=[0.5, None], id=[None, "x"])
    assert read(content, "m.parquet", ManifestLimits(2)) == [NamedClip("a.mp4", 0.5), NamedClip("b.mp4", id="x")]


def test_a_parquet_file_that_expands() -> None:
    content = bomb()
    assert len(content) < 64 * 1024
    with pytest.raises(ManifestTooLargeError, match="too much"):
        read(content, "bomb.parquet", ManifestLimits(100_000, memory_bytes=300 * MIB))
    with pytest.raises(SourceError, match="more than 8192 characters"):
        read(bomb(10), "bomb.parquet", ManifestLimits(100_000))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("m.parquet", parquet(path=["a.mp4"] * 50)),
        ("m.csv", b"path\n" + b"a.mp4\n" * 50),
        ("m.jsonl", b'{"path": "a.mp4"}\n' * 50),
        ("m.txt", b"a.mp4 0\n" * 50),
    ],
)
def test_too_many_rows(name: str, content: bytes) -> None:
    with pytest.raises(TooManyClipsError):
        read(content, name, ManifestLimits(49))


def test_too_many_bytes() -> None:
    with pytest.raises(ManifestTooLargeError, match="bytes of paths"):
        read(b"path\n" + b"a.mp4\n" * 50, "m.csv", ManifestLimits(100, output_bytes=100))


@pytest.mark.parametrize("limits", [ManifestLimits(10**9, cpu_seconds=1), ManifestLimits(10**9, seconds=0.5)])
def test_a_manifest_that_takes_too_long(limits: ManifestLimits) -> None:
    content = b'{"path": "a.mp4", "x": [' + b"[]," * 100 + b"1]}\n"
    with pytest.raises(ManifestTooLargeError, match="too much time"):
        read(content * 100_000, "m.jsonl", limits)


def test_a_line_of_many_values() -> None:
    with pytest.raises(ManifestTooLargeError):
        read(
            b'{"path": "a.mp4", "x": [' + b"[]," * (8 * MIB) + b"1]}",
            "m.jsonl",
            ManifestLimits(9, memory_bytes=300 * MIB),
        )


@pytest.mark.parametrize("content", [b"", b"PAR1", parquet(path=["a.mp4"])[:-9], b"\xff" * 1000])
def test_broken_files(content: bytes) -> None:
    with pytest.raises(SourceError, match=r"m\.parquet"):
        read(content, "m.parquet", ManifestLimits(9))


def test_over_http(tmp_path: Path) -> None:
    settings = Settings(jobs_dir=tmp_path / "jobs", job_roots=str(tmp_path), decode_threads=1)
    with TestClient(create_app(settings, FakeEngine())) as client:

        def send(content: bytes) -> int:
            return client.post("/v1/jobs", files={"file": ("m.parquet", content)}).status_code

        assert send(bomb(10)) == 400
        assert send(b"PAR1") == 400
    assert not list((tmp_path / "jobs").glob("job_*"))
