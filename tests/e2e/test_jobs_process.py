"""A batch job submitted by the client: its gateway is killed, and its rows equal those of `sefar extract`."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from e2e_gateway import start_gateway
from grey_clips import encode_grey_clip

from sefar_client import AsyncClient, Client, GatewayError, Job

COUNT = 400
DIFFERENT = 12


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Many names for a few videos, and one file that is not a video."""
    folder = tmp_path_factory.mktemp("videos")
    for number in range(COUNT):
        file = folder / f"{number:04d}.mp4"
        if number < DIFFERENT:
            file.write_bytes(encode_grey_clip([(20 * number + 2 * frame) % 256 for frame in range(24)]))
        else:
            os.link(folder / f"{number % DIFFERENT:04d}.mp4", file)
    (folder / "0300.mp4").unlink()
    (folder / "0300.mp4").write_bytes(b"no video")
    return folder


def table_of(*files: Path) -> list[dict[str, object]]:
    rows = [row for file in files for row in pq.read_table(file).to_pylist()]
    return sorted(rows, key=lambda row: str(row["id"]))


def test_a_killed_gateway_resumes_its_job_and_its_rows_equal_extract(videos: Path, tmp_path: Path) -> None:
    flags = ("--jobs-dir", str(tmp_path / "jobs"), "--job-roots", str(videos))
    gateway = start_gateway(tmp_path / "log", *flags)
    seen: list[Job] = []
    try:
        with Client(gateway.url) as client:
            job = client.submit([{"path": f"{number:04d}.mp4"} for number in range(COUNT)], key="mine")
            while (half := client.job(job.id)).done < 150:
                assert not half.is_finished
                time.sleep(0.02)
            with pytest.raises(GatewayError, match=r"is running, \d+ of 400 clips done"):
                client.download(job.id, tmp_path / "early.parquet")
            gateway.process.send_signal(signal.SIGKILL)
            gateway.process.wait()
            gateway = start_gateway(gateway.log, *flags, port=int(gateway.url.rpartition(":")[2]))
            done = client.wait(job.id, on_progress=seen.append)
            assert (done.status, done.total, done.done, done.failed) == ("completed", COUNT, COUNT, 1)
            assert seen[-1] == done
            assert [one.id for one in client.jobs()] == [job.id]
            assert client.submit([{"path": f"{number:04d}.mp4"} for number in range(COUNT)], key="mine").id == job.id
            result = client.download(job.id, tmp_path / "rows.parquet")
        asyncio.run(asynchronously(gateway.url, videos, tmp_path))
    finally:
        gateway.process.kill()
        gateway.process.wait()
    assert not (tmp_path / "early.parquet").exists()
    out = tmp_path / "features"
    command = [sys.executable, "-m", "sefar_serve", "extract", str(videos), "--out", str(out)]
    extracted = subprocess.run(command, capture_output=True, timeout=120)
    assert extracted.returncode == 1, extracted.stderr  # one clip failed
    rows = table_of(result)
    assert len(rows) == COUNT
    assert [row["error_code"] for row in rows if row["error"]] == ["not_a_video"]
    assert rows == table_of(*out.glob("part-*.parquet"))


async def asynchronously(url: str, videos: Path, folder: Path) -> None:
    manifest = folder / "clips.csv"
    manifest.write_text("path\n0001.mp4\n0002.mp4\n")
    async with AsyncClient(url) as client:
        job = await client.submit(str(manifest), tokens=True)
        assert (await client.wait(job.id)).status == "completed"
        file = await client.download(job.id, folder / "two.jsonl", format="jsonl")
        assert len(file.read_text().splitlines()) == 2
        assert [one.id for one in await client.jobs(limit=1)] == [job.id]
        assert (await client.cancel(job.id)).status == "completed"
        await client.delete(job.id)
        with pytest.raises(GatewayError, match="does not exist"):
            await client.job(job.id)
