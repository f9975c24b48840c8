"""Clients over a transport with the answers of a test."""

from __future__ import annotations

from collections.abc import Callable

import httpx

from sefar_client import AsyncClient, Client

MODEL = {
    **dict.fromkeys(("id", "owned_by", "version", "dataset", "layout"), "x"),
    **dict.fromkeys(("created", "size", "embedding_dim", "token_dim"), 1),
    "object": "model",
    "sample_frames": [2, 2, 4],
    "labels": ["a"],
}
MODELS = httpx.Response(200, json={"data": [MODEL]})

Handler = Callable[[httpx.Request], httpx.Response]


def refusal(status: int, code: str = "overloaded", param: str | None = None, **headers: str) -> httpx.Response:
    error = {"message": f"{code}!", "type": "t", "param": param, "code": code}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, json={"error": error}, headers=named)


def in_turn(*answers: httpx.Response | Exception) -> Handler:
    """Return the answers one after another, then repeat the last one."""
    left = list(answers)

    def handle(_: httpx.Request) -> httpx.Response:
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)

    return handle


def make(handler: Handler, patience: float = 120.0) -> Client:
    client = Client("http://gateway/v1/", patience=patience)
    client._http = httpx.Client(transport=httpx.MockTransport(handler), base_url="http://gateway")
    return client


def make_async(handler: Handler) -> AsyncClient:
    client = AsyncClient("http://gateway")
    client._http = httpx.AsyncClient(transport=httpx.MockTransport(handler), base_url="http://gateway")
    return client
