"""The client against an overloaded gateway that is also killed: each clip has one answer, and it is right."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Literal

import pytest
from e2e_gateway import GatewayProcess, start_gateway
from grey_clips import encode_grey_clip

from sefar_client import AsyncClient, Classification, Client, Failure

COUNT = 80
TINY = ("--max-decoding", "2", "--max-queue", "2", "--decode-threads", "1")
"""Capacity for two clips, while the client sends twelve at a time."""


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Clips that differ, and a broken one in the middle."""
    folder = tmp_path_factory.mktemp("clips")
    paths = [folder / f"{number:03d}.mp4" for number in range(COUNT)]
    for number, path in enumerate(paths):
        level = 2 * number
        path.write_bytes(encode_grey_clip([(level + 3 * frame) % 256 for frame in range(48)]))
    paths[COUNT // 2].write_bytes(b"no video")
    return paths


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[list[GatewayProcess]]:
    """A tiny gateway. Tests that kill it append the next one, which is stopped at the end."""
    running = [start_gateway(tmp_path / "log", *TINY)]
    yield running
    for one in running:
        one.process.kill()
        one.process.wait()


def restarted(gateway: list[GatewayProcess]) -> None:
    """Kill the gateway and start it again on the same port."""
    gateway[-1].process.send_signal(signal.SIGKILL)
    gateway[-1].process.wait()
    port = int(gateway[-1].url.rpartition(":")[2])
    gateway.append(start_gateway(gateway[-1].log, *TINY, port=port))


Row = tuple[str, list[tuple[int, float]]] | str


def row(result: Classification | Failure) -> Row:
    """What must be equal: the clip, its labels and scores, or why it failed."""
    if isinstance(result, Failure):
        return str(result.error)
    return result.name, [(label.index, round(label.score, 4)) for label in result.labels]


@pytest.mark.parametrize("kind", ["blocking", "asynchronous"])
def test_no_clip_is_lost_or_repeated_under_overload_and_a_restart(
    gateway: list[GatewayProcess], clips: list[Path], kind: Literal["blocking", "asynchronous"]
) -> None:
    url = gateway[0].url
    with Client(url) as client:
        undisturbed = [row(result) for result in client.each(client.classify, clips, at_once=1)]
    assert sum(isinstance(one, str) for one in undisturbed) == 1

    disturbed: list[Row] = []

    def take(result: Classification | Failure) -> bool:
        """Record a result; return whether to restart the gateway now."""
        disturbed.append(row(result))
        return len(disturbed) == COUNT // 3

    async def run() -> None:
        async with AsyncClient(url) as client:
            async for result in client.each(partial(client.classify, top_k=5), clips, at_once=12):
                if take(result):
                    await asyncio.to_thread(restarted, gateway)

    if kind == "asynchronous":
        asyncio.run(run())
    else:
        with Client(url) as client:
            for result in client.each(client.classify, clips, at_once=12):
                if take(result):
                    restarted(gateway)

    assert len(disturbed) == COUNT
    assert disturbed == undisturbed
    answered = re.findall(r'"status": ?(\d+)', gateway[0].log.read_text())
    assert "429" in answered, "the gateway was never overloaded, so nothing was tested"
    assert len(gateway) == 2
