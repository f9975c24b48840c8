"""Results of jobs are saved atomically, and nothing else is saved."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from client_answers import in_turn, make, make_async, refusal

from sefar_client import GatewayError
from sefar_client.calls import MEDIA_TYPES
from sefar_serve.api import jobs

PARQUET = {"content-type": MEDIA_TYPES["parquet"]}


class Cut(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that ends in the middle."""

    def __iter__(self) -> Iterator[bytes]:
        yield b"half"
        raise httpx.ReadError("cut")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"half"
        raise httpx.ReadError("cut")


def test_a_download_is_atomic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sefar_client.retries.FIRST_PAUSE", 0.0)
    target = tmp_path / "features.parquet"

    def answers() -> list[httpx.Response]:
        return [
            refusal(409, "job_not_finished"),
            httpx.Response(200, headers=PARQUET, stream=Cut()),
            httpx.Response(200, headers=PARQUET, content=b"all"),
        ]

    left = answers()
    client = make(lambda _: left.pop(0))
    with pytest.raises(GatewayError, match="job_not_finished"):
        client.download("job_1", target)
    assert list(tmp_path.iterdir()) == []
    assert client.download("job_1", target).read_bytes() == b"all"
    assert list(tmp_path.iterdir()) == [target]
    target.unlink()
    left = answers()

    async def run() -> None:
        async with make_async(lambda _: left.pop(0)) as client:
            with pytest.raises(GatewayError, match="job_not_finished"):
                await client.download("job_1", target)
            await client.download("job_1", target)

    asyncio.run(run())
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"all"]


def test_an_html_page_is_not_saved_as_a_result(tmp_path: Path) -> None:
    page = httpx.Response(200, html="<html>log in</html>")
    with pytest.raises(GatewayError, match="not like a sefar-serve gateway"):
        make(in_turn(page)).download("job_1", tmp_path / "features.parquet")

    async def run() -> None:
        async with make_async(in_turn(page)) as client:
            with pytest.raises(GatewayError, match="not like a sefar-serve gateway"):
                await client.download("job_1", tmp_path / "features.parquet")

    asyncio.run(run())
    assert list(tmp_path.iterdir()) == []


def test_content_types_are_those_of_the_server(tmp_path: Path) -> None:
    assert jobs.MEDIA_TYPES == MEDIA_TYPES
    lines = httpx.Response(200, headers={"content-type": "application/x-ndjson; charset=utf-8"}, content=b"{}")
    assert make(in_turn(lines)).download("job_1", tmp_path / "rows", format="jsonl").read_bytes() == b"{}"
    with pytest.raises(ValueError, match="unknown result format 'xml'; choose parquet or jsonl"):
        make(in_turn(lines)).download("job_1", tmp_path / "rows", format=cast(Any, "xml"))


def test_a_path_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    client = make(in_turn(httpx.Response(200, headers=PARQUET, content=b"all")))
    with pytest.raises(FileNotFoundError, match="cannot write into this folder") as missing:
        client.download("job_1", tmp_path / "missing" / "features.parquet")
    assert missing.value.filename == str(tmp_path / "missing")
    with pytest.raises(IsADirectoryError, match="add a file name") as folder:
        client.download("job_1", tmp_path)
    assert folder.value.filename == str(tmp_path)
