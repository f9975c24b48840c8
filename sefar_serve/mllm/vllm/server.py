"""An HTTP client of a vLLM server: its models, an answer, a stream of events; failures are our own error types."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from pydantic import BaseModel, ValidationError

from sefar_serve.language.errors import (
    GenerationError,
    GenerationFailedError,
    GeneratorOverloadedError,
    GeneratorUnavailableError,
    PromptTooLongError,
)

KEEP_ALIVE = 2.0
"""Seconds that an idle connection is kept; the server closes it after five, and a request sent just then is lost."""
CONNECT_SECONDS = 5.0


class ServerLostError(GeneratorUnavailableError):
    """The connection failed: the outcome of the request is unknown, and the server may have another model later."""


class ServedModel(BaseModel):
    """An entry of ``/v1/models``.

    Attributes:
        id: its name in requests.
        root: folder or hub id it was loaded from, if the server reports it.
        parent: for a LoRA, the id of the base model.
        max_model_len: maximum number of tokens of prompt and answer together, if the server reports it.
    """

    id: str
    root: str | None = None
    parent: str | None = None
    max_model_len: int | None = None


class VllmServer:
    """The connection to one server.

    Args:
        url: URL of the server, with or without ``/v1``.
        api_key: the value of the server's ``--api-key``; None for none.
        timeout: seconds without a byte of an answer after which the answer counts as lost.
    """

    def __init__(self, url: str, *, api_key: str | None = None, timeout: float = 60.0) -> None:
        self.url = url.rstrip("/").removesuffix("/v1").rstrip("/")
        self._timeout = timeout
        self._client = httpx.AsyncClient(
            base_url=self.url,
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=httpx.Timeout(timeout, connect=min(CONNECT_SECONDS, timeout), pool=None),
            # The generator limits the number of requests in flight.
            limits=httpx.Limits(max_connections=None, keepalive_expiry=KEEP_ALIVE),
        )

    async def close(self) -> None:
        """Close all connections; reads from them fail."""
        await self._client.aclose()

    async def models(self, *, timeout: float) -> list[ServedModel]:
        """The models that the server lists.

        Raises:
            GenerationError: as `post`.
        """
        async with self._answer("GET", "/v1/models", None, timeout) as response:
            listed = _json(await response.aread(), self.url)
        try:
            return [ServedModel.model_validate(entry) for entry in listed["data"]]
        except (KeyError, TypeError, ValidationError) as error:
            raise GenerationFailedError(
                f"{self.url}/v1/models does not list models as OpenAI's API does; check that it is a vLLM server"
            ) from error

    async def post(self, path: str, body: bytes, *, timeout: float | None = None) -> dict[str, Any]:
        """Send a request and wait for the whole answer.

        Args:
            path: e.g. ``/v1/completions``.
            body: JSON.
            timeout: seconds; None for the timeout of the connection.

        Raises:
            PromptTooLongError: the server says that the prompt is too long.
            GeneratorOverloadedError: the server is busy.
            ServerLostError: the server cannot be reached, or did not answer in time.
            GeneratorUnavailableError: the server rejects the key, or is not ready.
            GenerationFailedError: the server refuses the request, or failed on it.
        """
        async with self._answer("POST", path, body, timeout) as response:
            return _json(await response.aread(), self.url)

    async def stream(self, path: str, body: bytes) -> AsyncGenerator[dict[str, Any], None]:
        """Send a request and read the answer's events as they come; closing the iterator cancels it on the server.

        Raises:
            GenerationError: as `post`, also in the middle of the stream.
        """
        async with self._answer("POST", path, body, None) as response:
            async for line in response.aiter_lines():
                if not line.startswith("data:"):
                    continue
                data = line.removeprefix("data:").strip()
                if data == "[DONE]":
                    return
                event = _json(data.encode(), self.url)
                if (error := event.get("error")) is not None:
                    raise GenerationFailedError(
                        f"the language model failed in the middle of its answer: {_message(error)}"
                    )
                yield event
        raise ServerLostError(f"the vLLM server at {self.url} closed the connection in the middle of its answer")

    @asynccontextmanager
    async def _answer(
        self, method: str, path: str, body: bytes | None, timeout: float | None
    ) -> AsyncIterator[httpx.Response]:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        seconds = httpx.USE_CLIENT_DEFAULT if timeout is None else timeout
        try:
            async with self._client.stream(method, path, content=body, headers=headers, timeout=seconds) as response:
                if response.status_code != httpx.codes.OK:
                    raise self._refusal(response, await response.aread())
                yield response
        except httpx.TimeoutException as error:
            raise ServerLostError(
                f"the vLLM server at {self.url} did not answer within {timeout or self._timeout:g} s"
            ) from error
        except (httpx.TransportError, httpx.StreamError) as error:
            raise ServerLostError(f"the vLLM server at {self.url} cannot be reached: {error or type(error)}") from error

    def _refusal(self, response: httpx.Response, content: bytes) -> GenerationError:
        status = response.status_code
        try:
            answer = json.loads(content)
        except ValueError:
            answer = content[:200].decode(errors="replace")
        message = _message(answer.get("error", answer) if isinstance(answer, dict) else answer)
        after = response.headers.get("Retry-After", "")
        retry = {"retry_after": int(after)} if after.isdecimal() else {}
        if status == httpx.codes.TOO_MANY_REQUESTS:
            return GeneratorOverloadedError(f"the vLLM server is busy: {message}", **retry)
        if status in (502, 503, 504):
            return GeneratorUnavailableError(f"the vLLM server at {self.url} is not ready: {message}", **retry)
        if status in (401, 403):
            return GeneratorUnavailableError(
                f"the vLLM server at {self.url} rejects the API key; set SEFAR_VLLM_API_KEY to its --api-key"
            )
        if status == 400 and ("maximum context length" in message or "max_model_len" in message):
            return PromptTooLongError(message)
        return GenerationFailedError(f"the vLLM server refused the request ({status}): {message}")


def _json(content: bytes, url: str) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except ValueError as error:
        raise GenerationFailedError(f"{url} sent an answer that is not JSON; check that it is a vLLM server") from error
    if not isinstance(value, dict):
        raise GenerationFailedError(f"{url} sent JSON in another format than vLLM's; check that it is a vLLM server")
    return value


def _message(error: Any) -> str:
    return str(error.get("message", error)) if isinstance(error, dict) else str(error)
