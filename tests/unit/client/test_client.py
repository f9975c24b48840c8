"""The typed client against the real application with the fake engine."""

from __future__ import annotations

import asyncio
import base64
import io
import typing
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient
from pydantic import BaseModel

from sefar_client import (
    AsyncClient,
    Client,
    Failure,
    GatewayError,
    GatewayUnreachableError,
    LanguageModel,
    Model,
    calls,
    clips,
    results,
    served,
    texts,
)
from sefar_client.base import Result
from sefar_serve import options
from sefar_serve.api import create_app
from sefar_serve.engine import FakeEngine
from sefar_serve.language import CAPTION_PROMPT, FakeGenerator
from sefar_serve.schemas import chat as chat_schemas
from sefar_serve.schemas import jobs as job_schemas
from sefar_serve.schemas import video as schemas
from sefar_serve.settings import Settings


@pytest.fixture
def client() -> Iterator[Client]:
    with TestClient(create_app(Settings(api_keys="k"), FakeEngine(), FakeGenerator())) as server:
        client = Client("http://gateway", api_key="k")
        client.close()
        # Only the transport is replaced: it runs the application in this process.
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


def test_classify_takes_paths_bytes_and_open_files(client: Client, tmp_path: Path, dark_clip: bytes) -> None:
    path = tmp_path / "dark.mp4"
    path.write_bytes(dark_clip)
    with path.open("rb") as opened:
        found = [client.classify(video, top_k=2, raw_scores=True) for video in (path, str(path), dark_clip, opened)]
    assert [item.name for item in found] == ["dark.mp4", "dark.mp4", "video", "dark.mp4"]
    for item in found:
        assert len(item.labels) == 2
        assert item.best.logit == 5.0
        assert (item.model, item.usage.clips) == ("fake", 1)


def test_embeddings_are_arrays(client: Client, bright_clip: bytes) -> None:
    both = client.embed(bright_clip, include=["embedding", "tokens"])
    assert both.embedding is not None
    assert both.tokens is not None
    assert both.embedding.dtype == both.tokens.dtype == np.float32
    np.testing.assert_array_equal(both.embedding, np.full(8, 2.0))
    assert both.tokens.ndim == 2
    alone = client.embed(bright_clip, window=0.5)
    assert alone.tokens is None
    assert alone.timeline is not None
    assert [window.embedding is not None for window in alone.timeline] == [True] * len(alone.timeline)
    assert client.embed(bright_clip) == client.embed(bright_clip) != both
    assert both.model_dump(mode="json")["embedding"] == [2.0] * 8


def test_caption_and_ask(client: Client, bright_clip: bytes, tmp_path: Path) -> None:
    item = client.caption(bright_clip, max_tokens=50)
    assert item.caption == f"clip 2 {CAPTION_PROMPT}"
    assert item.labels[0].label == "giant circle forward"
    assert item.timeline is None
    long = client.caption(bright_clip, window=0.5)
    assert long.timeline is not None
    assert len(long.timeline) > 1
    path = tmp_path / "bright.mp4"
    path.write_bytes(bright_clip)
    for video in (bright_clip, path, io.BytesIO(bright_clip), f"sefar://{item.clip_id}"):
        answer = client.ask(video, "How many?", seed=1)
        assert answer.text == "clip 2 How many?"
        assert answer.sefar.clips[0].clip_id == item.clip_id
    scored = client.ask(path, "Which?", options=["salto", "circle"], end=0.5).sefar.options
    assert scored is not None
    assert [option.text for option in scored] == ["salto", "circle"]
    with pytest.raises(GatewayError) as refused:
        client.ask("sefar://clip_0", "How many?")
    assert refused.value.code == "clip_not_found"


def test_a_video_may_be_a_url(client: Client, dark_clip: bytes) -> None:
    data = f"data:video/mp4;base64,{base64.b64encode(dark_clip).decode()}"
    assert client.classify(data, top_k=1).labels == client.classify(dark_clip, top_k=1).labels
    with pytest.raises(GatewayError) as refused:
        client.classify("https://nowhere.example/clip.mp4")
    assert refused.value.code == "url_not_allowed"


def test_errors_are_typed(client: Client) -> None:
    with pytest.raises(GatewayError) as refused:
        client.classify(b"no video" * 50)
    assert (refused.value.status, refused.value.code) == (415, "not_a_video")
    assert refused.value.request_id


def test_an_unknown_option_is_named(client: Client, dark_clip: bytes) -> None:
    with pytest.raises(
        TypeError, match="unknown option 'topk'; the options are attributes, background, end, min_segment, model"
    ):
        client.classify(dark_clip, topk=3)  # type: ignore[call-arg]


def test_models_and_ready(client: Client) -> None:
    model, captioner = client.models()
    assert isinstance(model, Model)
    assert isinstance(captioner, LanguageModel)
    assert model.id == captioner.encoder == "fake"
    assert client.ready()


def test_a_missing_file_raises_file_not_found(client: Client) -> None:
    with pytest.raises(FileNotFoundError):
        client.classify("/no/such.mp4")


def test_without_a_gateway_ready_is_false_and_the_error_says_what_to_do() -> None:
    with Client("http://127.0.0.1:9") as client:
        assert not client.ready()
        with pytest.raises(GatewayUnreachableError, match=r"http://127.0.0.1:9.*refused.*`sefar serve`"):
            client.classify(b"video")


def test_the_asynchronous_client_gives_the_same_results(dark_clip: bytes) -> None:
    async def run() -> None:
        app = create_app(Settings(), FakeEngine(), FakeGenerator())
        async with app.router.lifespan_context(app), AsyncClient("http://gateway") as client:
            await client._http.aclose()
            client._http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway")
            assert await client.ready()
            assert (await client.models())[0].id == "fake"
            assert (await client.classify(dark_clip)).best.index == 0
            vector = (await client.embed(dark_clip)).embedding
            assert vector is not None
            assert vector.shape == (8,)
            assert (await client.caption(dark_clip)).caption == f"clip 0 {CAPTION_PROMPT}"
            assert (await client.ask(dark_clip, "What?")).text == "clip 0 What?"

    asyncio.run(run())


def shared_types() -> list[type[Result]]:
    mine = [kind for module in (clips, results, texts, served) for kind in vars(module).values()]
    ours = dict.fromkeys(kind for kind in mine if isinstance(kind, type) and issubclass(kind, Result))
    del ours[Result]
    assert len(ours) > 20
    return list(ours)


@pytest.mark.parametrize("typed", shared_types())
def test_client_and_server_have_the_same_types(typed: type[Result]) -> None:
    name = typed.__name__
    model: type[BaseModel] = next(
        getattr(module, name) for module in (schemas, chat_schemas, job_schemas) if hasattr(module, name)
    )
    of_the_request = (
        {"model", "version", "usage"} if "index" in typed.model_fields and "clip" in typed.model_fields else set()
    )
    assert set(typed.model_fields) == set(model.model_fields) | of_the_request
    for field, info in model.model_fields.items():
        assert optional(typed.model_fields[field].annotation) == optional(info.annotation), f"{name}.{field}"


def optional(kind: object) -> bool:
    return kind is type(None) or type(None) in typing.get_args(kind)


OPTIONS: list[tuple[type, type[BaseModel]]] = [
    (calls.ClassifyOptions, options.ClassifyOptions),
    (calls.EmbedOptions, options.EmbedOptions),
    (calls.CaptionOptions, options.CaptionOptions),
    (calls.JobOptions, job_schemas.JobOptions),
    (calls.JobClip, job_schemas.JobInput),
]
# The client sets these itself, or they exist for other clients.
ELSEWHERE = {"modality", "user", "encoding_format", "dimensions"}


@pytest.mark.parametrize(("mine", "servers"), OPTIONS, ids=[mine.__name__ for mine, _ in OPTIONS])
def test_client_and_server_have_the_same_options(mine: type, servers: type[BaseModel]) -> None:
    assert set(mine.__annotations__) | ELSEWHERE == set(servers.model_fields) | ELSEWHERE


def test_results_print_and_show_in_notebooks_with_escaped_file_names(
    client: Client, dark_clip: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "<b>.mp4"
    path.write_bytes(dark_clip)
    answer = client.classify(path)
    assert str(answer) == f"<b>.mp4: {answer.best.label} ({answer.best.score:.0%}), η {answer.reliability:.2f}"
    shown = answer._repr_html_()
    assert "&lt;b&gt;.mp4" in shown
    assert "<b>.mp4" not in shown
    assert shown.count("<tr>") == len(answer.labels)
    assert str(client.embed(path)) == "<b>.mp4: embedding (8,) float32"
    [failure] = client.each(client.classify, [b"no video" * 50])
    assert isinstance(failure, Failure)
    assert "#b00020" in failure._repr_html_()
    assert client.caption(path).caption in client.caption(path)._repr_html_()
    assert "salto" in client.ask(path, "Which?", options=["salto", "circle"])._repr_html_()
