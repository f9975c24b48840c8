"""The gateway in its own process, as users run it: real files over HTTP, bad files in between, a clean stop."""

from __future__ import annotations

import io
import json
import signal
import threading
import time
from functools import partial
from pathlib import Path

import av
import httpx
import numpy as np
import pytest
from e2e_gateway import GatewayProcess, start_gateway
from grey_clips import encode_grey_clip

from sefar_client import Classification, Client, Embedding, GatewayError


def audio_only() -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return buffer.getvalue()


def test_every_real_video_classifies_over_http(running_gateway: GatewayProcess, shared_data: Path) -> None:
    videos = sorted((shared_data / "videos").iterdir())
    parts = [("file", (video.name, video.read_bytes())) for video in videos]
    answer = httpx.post(f"{running_gateway.url}/v1/classify", files=parts, data={"top_k": "3"}, timeout=60)
    with Client(running_gateway.url) as client:
        alone = list(client.each(partial(client.classify, top_k=3), videos))
    for video, item, one in zip(videos, answer.json()["data"], alone, strict=True):
        assert item["object"] == "classification", item
        assert item["name"] == video.name
        assert len(item["labels"]) == 3
        assert 0 < item["reliability"] <= 1
        assert isinstance(one, Classification), one
        assert one.name == video.name
        assert one.clip.model_dump() == item["clip"]
        assert [label.index for label in one.labels] == [label["index"] for label in item["labels"]]


@pytest.mark.parametrize(
    ("name", "content", "status", "code"),
    [
        ("empty.mp4", b"", 422, {"empty_video"}),
        ("text.mp4", b"These are words and not a video.\n" * 99, 415, {"not_a_video"}),
        ("truncated.mp4", encode_grey_clip([90] * 24)[:600], 415, {"not_a_video", "undecodable_video"}),
        ("audio.mp4", audio_only(), 415, {"no_video_stream"}),
    ],
)
def test_bad_files_get_their_status_and_the_server_keeps_working(
    running_gateway: GatewayProcess, name: str, content: bytes, status: int, code: set[str], tmp_path: Path
) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with Client(running_gateway.url) as client:
        with pytest.raises(GatewayError) as refused:
            client.classify(file)
        assert refused.value.code in code
        assert refused.value.status == (422 if refused.value.code == "undecodable_video" else status)
        assert name in str(refused.value)
        assert client.classify(encode_grey_clip([90] * 3)).labels  # a video of 3 frames is valid
        assert client.ready()


def test_embeddings_are_equal_alone_and_concurrently(running_gateway: GatewayProcess) -> None:
    clips = [encode_grey_clip(list(range(level, level + 48))) for level in (0, 60, 120, 180)]
    with Client(running_gateway.url) as client:
        alone = [client.embed(clip).embedding for clip in clips]
        together = list(client.each(client.embed, clips * 8, at_once=32))
    assert len(together) == 32
    for i, item in enumerate(together):
        assert isinstance(item, Embedding)
        assert item.embedding is not None
        np.testing.assert_allclose(item.embedding, alone[i % 4], atol=1e-4)


def test_large_uploads_are_accepted(running_gateway: GatewayProcess) -> None:
    clip = encode_grey_clip([90] * 10)
    padding = 30_000_000
    box = (padding + 8).to_bytes(4, "big") + b"free" + bytes(padding)  # an MP4 box that readers skip
    with Client(running_gateway.url) as client:
        assert client.classify(clip + box).clip.frame_count == 10


def test_logs_are_json_lines(running_gateway: GatewayProcess) -> None:
    httpx.get(running_gateway.url + "/v1/models", headers={"x-request-id": "find-me"})
    for _ in range(100):
        lines = [json.loads(line) for line in running_gateway.log.read_text().splitlines()]
        found = [line for line in lines if line.get("request_id") == "find-me"]
        if found:
            break
        time.sleep(0.05)
    assert (found[0]["status"], found[0]["route"], found[0]["level"]) == (200, "/v1/models", "INFO")


def test_sigterm_lets_running_requests_finish(tmp_path: Path) -> None:
    # The batcher waits a second for more clips, so the request is still running when the signal comes.
    gateway = start_gateway(tmp_path / "log", "--max-wait-ms", "1000")
    answers = []

    def ask() -> None:
        with Client(gateway.url) as client:
            answers.append(client.classify(encode_grey_clip([90] * 10)))

    request = threading.Thread(target=ask)
    request.start()
    time.sleep(0.4)
    gateway.process.send_signal(signal.SIGTERM)
    request.join(30)
    assert gateway.process.wait(30) == 0, gateway.log.read_text()
    [answer] = answers
    assert answer.labels
