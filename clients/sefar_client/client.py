"""The client, blocking and asynchronous: the same calls, the same answers."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, cast

import httpx

from sefar_client.errors import GatewayError
from sefar_client.types import (
    CaptionsResponse,
    ChatCompletion,
    ClassifyResponse,
    EmbeddingsResponse,
    LanguageModel,
    Model,
)

Video = str | Path | bytes
"""A path, or the bytes of a video file."""

DEFAULT_TIMEOUT = 150.0
"""Seconds; a little more than the gateway itself allows a request by default."""


class Client:
    """Blocking client.

    Args:
        base_url: of the gateway, e.g. ``http://127.0.0.1:8000``.
        api_key: sent as bearer token when given.
        timeout: seconds for each request.
    """

    def __init__(self, base_url: str, *, api_key: str | None = None, timeout: float = DEFAULT_TIMEOUT) -> None:
        self._http = httpx.Client(base_url=base_url, headers=_headers(api_key), timeout=timeout)

    def classify(self, videos: Video | Sequence[Video], **options: Any) -> ClassifyResponse:
        """Fine-grained labels.

        Args:
            videos: one or several.
            options: those of POST /v1/classify: top_k, attributes, raw_scores, start, end, window,
                stride, model.

        Raises:
            GatewayError: the gateway refused the request, or its only video.
            FileNotFoundError: a path leads nowhere.
            httpx.TransportError: no gateway there.
        """
        return cast(ClassifyResponse, self._post("/v1/classify", videos, options))

    def embed(self, videos: Video | Sequence[Video], **options: Any) -> EmbeddingsResponse:
        """Embeddings and element tokens.

        Args:
            videos: one or several.
            options: those of POST /v1/embeddings: include, encoding_format, start, end, window,
                stride, model.

        Raises:
            GatewayError: the gateway refused the request, or its only video.
            FileNotFoundError: a path leads nowhere.
            httpx.TransportError: no gateway there.
        """
        return cast(EmbeddingsResponse, self._post("/v1/embeddings", videos, options))

    def caption(self, videos: Video | Sequence[Video], **options: Any) -> CaptionsResponse:
        """A sentence about each video.

        Args:
            videos: one or several.
            options: those of POST /v1/captions: prompt, max_tokens, temperature, seed, abstain_below,
                top_k, start, end, window, stride, model.

        Raises:
            GatewayError: the gateway refused the request, or its only video, or has no language model.
            FileNotFoundError: a path leads nowhere.
            httpx.TransportError: no gateway there.
        """
        return cast(CaptionsResponse, self._post("/v1/captions", videos, options))

    def ask(self, video: Video, question: str, **options: Any) -> ChatCompletion:
        """A question about a video.

        Args:
            video: a path or bytes, or ``sefar://CLIP_ID`` of a clip that was seen before.
            question: with or without options ``A.… B.… C.… D.…``.
            options: those of POST /v1/chat/completions: max_tokens, temperature, top_p, seed, stop, options,
                answer_mode, abstain_below, model; and start, end of the clip.

        Raises:
            GatewayError: the gateway refused the request, or has no language model.
            FileNotFoundError: the path leads nowhere.
            httpx.TransportError: no gateway there.
        """
        body = _question(video, question, options)
        return cast(ChatCompletion, _answer(self._http.post("/v1/chat/completions", json=body)))

    def models(self) -> list[Model | LanguageModel]:
        """The models the gateway serves, and its captioner."""
        return cast(list[Model | LanguageModel], _answer(self._http.get("/v1/models"))["data"])

    def ready(self) -> bool:
        """Whether the gateway is there and its model answers."""
        try:
            return self._http.get("/readyz").is_success
        except httpx.TransportError:
            return False

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _post(self, path: str, videos: Video | Sequence[Video], options: Mapping[str, Any]) -> dict[str, Any]:
        with ExitStack() as opened:
            return _answer(self._http.post(path, files=_files(videos, opened), data=_fields(options)))


class AsyncClient:
    """Asynchronous client; the calls are those of `Client`.

    Args:
        base_url: of the gateway, e.g. ``http://127.0.0.1:8000``.
        api_key: sent as bearer token when given.
        timeout: seconds for each request.
    """

    def __init__(self, base_url: str, *, api_key: str | None = None, timeout: float = DEFAULT_TIMEOUT) -> None:
        self._http = httpx.AsyncClient(base_url=base_url, headers=_headers(api_key), timeout=timeout)

    async def classify(self, videos: Video | Sequence[Video], **options: Any) -> ClassifyResponse:
        """See `Client.classify`."""
        return cast(ClassifyResponse, await self._post("/v1/classify", videos, options))

    async def embed(self, videos: Video | Sequence[Video], **options: Any) -> EmbeddingsResponse:
        """See `Client.embed`."""
        return cast(EmbeddingsResponse, await self._post("/v1/embeddings", videos, options))

    async def caption(self, videos: Video | Sequence[Video], **options: Any) -> CaptionsResponse:
        """See `Client.caption`."""
        return cast(CaptionsResponse, await self._post("/v1/captions", videos, options))

    async def ask(self, video: Video, question: str, **options: Any) -> ChatCompletion:
        """See `Client.ask`."""
        body = _question(video, question, options)
        return cast(ChatCompletion, _answer(await self._http.post("/v1/chat/completions", json=body)))

    async def models(self) -> list[Model | LanguageModel]:
        """See `Client.models`."""
        return cast(list[Model | LanguageModel], _answer(await self._http.get("/v1/models"))["data"])

    async def ready(self) -> bool:
        """See `Client.ready`."""
        try:
            return (await self._http.get("/readyz")).is_success
        except httpx.TransportError:
            return False

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _post(self, path: str, videos: Video | Sequence[Video], options: Mapping[str, Any]) -> dict[str, Any]:
        with ExitStack() as opened:
            return _answer(await self._http.post(path, files=_files(videos, opened), data=_fields(options)))


def _headers(api_key: str | None) -> dict[str, str]:
    return {"authorization": f"Bearer {api_key}"} if api_key else {}


def _files(videos: Video | Sequence[Video], opened: ExitStack) -> list[tuple[str, tuple[str, BinaryIO | bytes]]]:
    """Multipart parts; files are streamed from disk, and closed with `opened`."""
    several = [videos] if isinstance(videos, (str, Path, bytes)) else videos
    parts: list[tuple[str, tuple[str, BinaryIO | bytes]]] = []
    for number, video in enumerate(several):
        if isinstance(video, bytes):
            parts.append(("file", (f"video {number}", video)))
        else:
            file = opened.enter_context(Path(video).open("rb"))  # noqa: SIM115 - closed with `opened`
            parts.append(("file", (Path(video).name, file)))
    return parts


def _question(video: Video, question: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a chat completion about one video."""
    if isinstance(video, str) and video.startswith("sefar://"):
        url = video
    else:
        content = video if isinstance(video, bytes) else Path(video).read_bytes()
        url = f"data:video/mp4;base64,{base64.b64encode(content).decode('ascii')}"
    given = {name: value for name, value in options.items() if value is not None}
    span = {name: given.pop(name) for name in ("start", "end") if name in given}
    parts: list[dict[str, Any]] = [
        {"type": "video_url", "video_url": {"url": url, **span}},
        {"type": "text", "text": question},
    ]
    return {"messages": [{"role": "user", "content": parts}], **given}


def _fields(options: Mapping[str, Any]) -> dict[str, str]:
    def text(value: object) -> str:
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, (list, tuple)):
            return ",".join(map(str, value))
        return str(value)

    return {name: text(value) for name, value in options.items() if value is not None}


def _answer(response: httpx.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError:
        body = {}
    if response.is_success:
        return cast(dict[str, Any], body)
    error = body.get("error", {}) if isinstance(body, dict) else {}
    retry_after = response.headers.get("retry-after")
    raise GatewayError(
        error.get("message", f"{response.url} answered {response.status_code} {response.reason_phrase}"),
        status=response.status_code,
        code=error.get("code", "unknown"),
        param=error.get("param"),
        request_id=response.headers.get("x-request-id"),
        retry_after=float(retry_after) if retry_after else None,
    )
