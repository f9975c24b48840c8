"""Chat requests and their answers, for the tests of conversations."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

from fastapi.testclient import TestClient

Gateway = Callable[..., TestClient]

CHAT = "/v1/chat/completions"


QUESTION = (
    "What is it? A.salto forward tucked B.giant circle forward C.salto backward tucked D.split jump with 0.5 turn"
)


def data_url(video: bytes) -> str:
    return "data:video/mp4;base64," + base64.b64encode(video).decode()


def asking(video: bytes | str | None, text: str = "What is it?", **more: Any) -> dict[str, Any]:
    content: list[dict[str, Any]] = [{"type": "text", "text": text}]
    if video is not None:
        url = video if isinstance(video, str) else data_url(video)
        content.insert(0, {"type": "video_url", "video_url": {"url": url}})
    return {"messages": [{"role": "user", "content": content}], **more}


def events(client: TestClient, body: dict[str, Any]) -> list[Any]:
    with client.stream("POST", CHAT, json={**body, "stream": True}) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = [line.removeprefix("data: ") for line in response.iter_lines() if line]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def error_of(response: Any) -> dict[str, Any]:
    found: dict[str, Any] = response.json()["error"]
    return found
