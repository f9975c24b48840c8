"""The typed client against the real application over the fake engine."""

from __future__ import annotations

import asyncio
import types
import typing
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient
from pydantic import BaseModel

import sefar_client.types
from sefar_client import AsyncClient, Client, GatewayError
from sefar_serve import chat_schemas, schemas
from sefar_serve.api import create_app
from sefar_serve.engine import FakeEngine
from sefar_serve.generation import CAPTION_PROMPT, FakeGenerator
from sefar_serve.settings import Settings


@pytest.fixture
def client() -> Iterator[Client]:
    with TestClient(create_app(Settings(api_keys="k"), FakeEngine(), FakeGenerator())) as server:
        client = Client("http://gateway", api_key="k")
        client.close()
        # The test server's transport runs the application in this process; the rest is the client's own.
        client._http = httpx.Client(
            transport=_ToServer(server), base_url="http://gateway", headers={"authorization": "Bearer k"}
        )
        with client:
            yield client


class _ToServer(httpx.BaseTransport):
    def __init__(self, server: TestClient) -> None:
        self._server = server

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = self._server.request(
            request.method,
            request.url.raw_path.decode(),
            content=request.read(),
            headers=dict(request.headers),
        )
        return httpx.Response(answer.status_code, headers=dict(answer.headers), content=answer.content)


def test_classify_takes_paths_and_bytes(client: Client, tmp_path: Path, dark_clip: bytes) -> None:
    path = tmp_path / "dark.mp4"
    path.write_bytes(dark_clip)
    answer = client.classify([path, str(path), dark_clip], top_k=2, raw_scores=True)
    assert [item["name"] for item in answer["data"]] == ["dark.mp4", "dark.mp4", "video 2"]
    for item in answer["data"]:
        assert item["object"] == "classification"
        assert item["labels"][0]["logit"] == 5.0


def test_embed(client: Client, bright_clip: bytes) -> None:
    [item] = client.embed(bright_clip, include=["embedding", "tokens"])["data"]
    assert item["object"] == "embedding"
    assert item["embedding"] == [2.0] * 8
    assert item["tokens"] is not None


def test_caption_and_ask(client: Client, bright_clip: bytes, tmp_path: Path) -> None:
    [item] = client.caption(bright_clip, max_tokens=50)["data"]
    assert item["object"] == "caption"
    assert item["caption"] == f"clip 2 {CAPTION_PROMPT}"
    assert item["labels"][0]["label"] == "giant circle forward"
    assert item["timeline"] is None
    [long] = client.caption(bright_clip, window=0.5)["data"]
    assert long["object"] == "caption"
    assert long["timeline"] is not None and len(long["timeline"]) > 1
    path = tmp_path / "bright.mp4"
    path.write_bytes(bright_clip)
    for video in (bright_clip, path, f"sefar://{item['clip_id']}"):
        answer = client.ask(video, "How many?", seed=1)
        assert answer["choices"][0]["message"]["content"] == "clip 2 How many?"
        assert answer["sefar"]["clips"][0]["clip_id"] == item["clip_id"]
    scored = client.ask(path, "Which?", options=["salto", "circle"], end=0.5)["sefar"]["options"]
    assert scored is not None and [option["text"] for option in scored] == ["salto", "circle"]
    with pytest.raises(GatewayError) as refused:
        client.ask("sefar://clip_0", "How many?")
    assert refused.value.code == "clip_not_found"


def test_refusals_are_typed(client: Client) -> None:
    with pytest.raises(GatewayError) as refused:
        client.classify(b"no video" * 50)
    assert (refused.value.status, refused.value.code) == (415, "not_a_video")
    assert refused.value.request_id


def test_models_and_ready(client: Client) -> None:
    assert client.models()[0]["id"] == "fake"
    assert client.ready()


def test_a_missing_file_is_a_missing_file(client: Client) -> None:
    with pytest.raises(FileNotFoundError):
        client.classify("/no/such.mp4")


def test_no_gateway_is_not_ready() -> None:
    with Client("http://127.0.0.1:9") as client:
        assert not client.ready()


def test_the_asynchronous_client_answers_the_same(dark_clip: bytes) -> None:
    async def run() -> None:
        app = create_app(Settings(), FakeEngine(), FakeGenerator())
        async with app.router.lifespan_context(app), AsyncClient("http://gateway") as client:
            await client._http.aclose()
            client._http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway")
            assert await client.ready()
            assert (await client.models())[0]["id"] == "fake"
            [item] = (await client.classify(dark_clip))["data"]
            assert item["object"] == "classification"
            [vector] = (await client.embed(dark_clip))["data"]
            assert vector["object"] == "embedding"
            [caption] = (await client.caption(dark_clip))["data"]
            assert caption["object"] == "caption"
            answer = await client.ask(dark_clip, "What?")
            assert answer["choices"][0]["message"]["content"] == "clip 0 What?"

    asyncio.run(run())


def shared_types() -> list[str]:
    return [
        name
        for name, kind in vars(sefar_client.types).items()
        if typing.is_typeddict(kind) and kind.__module__ == "sefar_client.types"
    ]


@pytest.mark.parametrize("name", shared_types())
def test_the_clients_types_are_the_servers(name: str) -> None:
    model: type[BaseModel] = getattr(schemas, name, None) or getattr(chat_schemas, name)
    typed = typing.get_type_hints(getattr(sefar_client.types, name))
    assert set(typed) == set(model.model_fields)
    for field, kind in typed.items():
        optional = type(None) in typing.get_args(kind) and typing.get_origin(kind) in (types.UnionType, typing.Union)
        server = model.model_fields[field].annotation
        assert optional == (type(None) in typing.get_args(server)), f"{name}.{field}"
