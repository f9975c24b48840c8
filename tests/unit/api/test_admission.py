"""Admission before the body is read, fair shares, turns, and how long clients are told to wait."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import ExitStack

import httpx
import pytest
from gateway_thread import GatewayThread

from sefar_serve.api import admission as module
from sefar_serve.api import create_app
from sefar_serve.api.admission import Share, Turns
from sefar_serve.engine import EngineOverloadedError, FakeEngine
from sefar_serve.settings import Settings


def test_a_share_is_bounded_and_given_back() -> None:
    share = Share(2, "requests")
    with share.taken("a"), share.taken("a"):
        with pytest.raises(EngineOverloadedError, match="2 requests are in progress"), share.taken("a"):
            pass
        assert share.total == 2
    assert share.total == 0


def test_keys_share_what_there_is() -> None:
    share = Share(8, "videos", several=True)
    with ExitStack() as held:
        for _ in range(6):
            held.enter_context(share.taken("greedy"))
        with pytest.raises(EngineOverloadedError, match="your share of 8"), share.taken("greedy"):
            pass
        with share.taken("modest"), pytest.raises(EngineOverloadedError, match="your share of 8"):
            held.enter_context(share.taken("greedy"))
        held.enter_context(share.taken("modest", 2))


def test_the_wait_follows_from_the_queue_and_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    share = Share(100, "requests")
    assert share.seconds == 1
    for _ in range(11):
        with share.taken("a"):
            now += 0.5  # two a second
    with ExitStack() as held:
        for _ in range(20):
            held.enter_context(share.taken("a"))
        assert share.seconds == 10
        now += 10_000  # nothing has ended for hours
        assert share.seconds == module.LONGEST_WAIT


def test_turns_go_to_the_key_with_the_fewest() -> None:
    order = []

    async def run() -> None:
        turns = Turns(2)
        ends = asyncio.Event()

        async def video(key: str, videos: int = 1) -> None:
            async with turns.turn(key, videos):
                order.append(key)
                await ends.wait()

        tasks = [asyncio.create_task(video("a")) for _ in range(6)]
        await asyncio.sleep(0)
        tasks += [asyncio.create_task(video("b"))]
        await asyncio.sleep(0)
        assert order == ["a", "a"]
        tasks[0].cancel()
        await asyncio.sleep(0.01)
        assert order == ["a", "a", "b"]
        tasks[3].cancel()  # while it waits
        ends.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert order == ["a", "a", "b", "a", "a", "a"]
        await video("a", 99)  # more than there is
        assert not turns._running and not turns._waiting

    asyncio.run(run())


def test_a_full_server_refuses_before_the_body(gateway) -> None:
    """A body that is never sent: the answer comes all the same."""
    client = gateway(max_requests=1)
    requests = client.app.state.gateway.admission.requests
    with requests.taken(""), GatewayThread(client.app, lifespan="off") as url:
        address = httpx.URL(url)
        with socket.create_connection((address.host, address.port), timeout=60) as open_:
            open_.sendall(b"POST /v1/classify HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n")
            head = open_.recv(65536)
        assert head.startswith(b"HTTP/1.1 429")
        assert b"\r\nretry-after: 1\r\n" in head.lower()
        assert b"\r\nx-request-id: " in head
        assert httpx.get(f"{url}/v1/models", timeout=60).status_code == 200
        assert 'sefar_rejected_total{reason="requests"} 1.0' in httpx.get(f"{url}/metrics", timeout=60).text


def test_a_key_that_fills_the_server_leaves_room_for_others(dark_clip: bytes) -> None:
    app = create_app(Settings(api_keys="a,b", max_requests=4), FakeEngine(delay=0.05))
    statuses: dict[str, list[int]] = {"a": [], "b": []}
    with GatewayThread(app) as url:

        def send(key: str) -> None:
            headers = {"authorization": f"Bearer {key}", "content-type": "video/mp4"}
            statuses[key].append(
                httpx.post(f"{url}/v1/classify", content=dark_clip, headers=headers, timeout=60).status_code
            )

        threads = [threading.Thread(target=send, args=("a",)) for _ in range(16)]
        for thread in threads:
            thread.start()
        for _ in range(5):
            send("b")
        for thread in threads:
            thread.join()
    assert statuses["b"] == [200] * 5
    assert set(statuses["a"]) == {200, 429}
    share = app.state.gateway.admission
    assert share.requests.total == share.videos.total == 0
