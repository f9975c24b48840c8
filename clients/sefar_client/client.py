"""The client, blocking and asynchronous: the same calls, the same answers."""

from __future__ import annotations

import asyncio
import os
import threading
import time
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Literal, TypeVar, Unpack

import httpx

from sefar_client import calls, many
from sefar_client.calls import AskOptions, Call, CaptionOptions, ClassifyOptions, EmbedOptions, JobClip, JobOptions
from sefar_client.errors import GatewayError, GatewayUnreachableError, refusal_of, unreachable
from sefar_client.results import (
    Caption,
    ChatCompletion,
    Classification,
    Embedding,
    Failure,
    Job,
    LanguageModel,
    Model,
    Video,
)
from sefar_client.retries import Retries, Tries

T = TypeVar("T")
V = TypeVar("V", bound=Video)

DEFAULT_URL = "http://127.0.0.1:8000"
"""Where `sefar serve` listens by default."""
DEFAULT_TIMEOUT = 150.0
"""Seconds; a little more than the gateway itself allows a request by default."""
DEFAULT_PATIENCE = 120.0
"""Seconds; a gateway's restart, and a queue that empties, take less."""
POLL_SECONDS = 2.0

ResultFormat = Literal["parquet", "jsonl"]


class Client:
    """Blocking client; several threads may share it.

    A request that the gateway has no place for (429), or that a restart cuts off, is sent again, after the time that
    the gateway asks for and a random bit more. A gateway that never answered this client is not waited for.

    Args:
        base_url: of the gateway.
        api_key: sent as bearer token; SEFAR_API_KEY of the environment if left out.
        timeout: seconds for each try.
        patience: seconds after which no new try of a request is made; 0 makes one try.
    """

    def __init__(
        self,
        base_url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        patience: float = DEFAULT_PATIENCE,
    ) -> None:
        self._http = httpx.Client(base_url=_address(base_url), headers=_headers(api_key), timeout=timeout)
        self._retries = Retries(patience)
        self._closed = threading.Event()

    def classify(self, video: Video, **options: Unpack[ClassifyOptions]) -> Classification:
        """Fine-grained labels of a video.

        Args:
            video: see `Video`.
            options: see `ClassifyOptions`.

        Raises:
            GatewayError: the gateway refused the request.
            GatewayUnreachableError: no gateway there.
            OSError: the video's path leads nowhere.
            TypeError: an option that does not exist.
        """
        return self._answer(calls.classify(video, options))

    def embed(self, video: Video, **options: Unpack[EmbedOptions]) -> Embedding:
        """Embedding and element tokens of a video, as numpy arrays.

        Args:
            video: see `Video`.
            options: see `EmbedOptions`.

        Raises:
            GatewayError, GatewayUnreachableError, OSError, TypeError: as `classify`.
        """
        return self._answer(calls.embed(video, options))

    def caption(self, video: Video, **options: Unpack[CaptionOptions]) -> Caption:
        """A sentence about a video.

        Args:
            video: see `Video`.
            options: see `CaptionOptions`.

        Raises:
            GatewayError, GatewayUnreachableError, OSError, TypeError: as `classify`; also where there is no language
                model.
        """
        return self._answer(calls.caption(video, options))

    def ask(self, video: Video, question: str, **options: Unpack[AskOptions]) -> ChatCompletion:
        """Ask a question about a video.

        Args:
            video: see `Video`; or ``sefar://CLIP_ID`` of a clip that the gateway saw before.
            question: with or without options ``A.… B.… C.… D.…``.
            options: see `AskOptions`.

        Raises:
            GatewayError, GatewayUnreachableError, OSError, TypeError: as `caption`.
        """
        return self._answer(calls.ask(video, question, options))

    def each(self, call: Callable[[V], T], videos: Iterable[V], *, at_once: int = 8) -> Iterator[T | Failure]:
        """One call for each of many videos: ``each(sefar.classify, paths)``, or with `functools.partial` for options.

        Args:
            call: `classify`, `embed`, or any function of a video.
            videos: taken as they are needed, however many there are.
            at_once: calls under way.

        Yields:
            In the order of the videos, exactly one each: the result, or a `Failure` where it lies with this video.

        Raises:
            GatewayError, GatewayUnreachableError: the others would end so, too; what was yielded stays.
            ValueError: `at_once` is below 1.
            Exception: what `videos` raised, after the results of those that it gave.
        """
        return many.each(call, videos, at_once)

    def submit(
        self,
        clips: Sequence[JobClip] | str | os.PathLike[str] | BinaryIO,
        *,
        key: str | None = None,
        **options: Unpack[JobOptions],
    ) -> Job:
        """Give the gateway a batch job: features and labels of many clips that it can reach itself.

        Args:
            clips: a list, or the path of a manifest (CSV, JSONL or Parquet with the columns of `JobClip`).
            key: the same key and clips give the same job again; a random one if left out.
            options: see `JobOptions`.

        Raises:
            GatewayError, GatewayUnreachableError, OSError, TypeError: as `classify`.
        """
        return self._answer(calls.submit(clips, options, key))

    def job(self, job_id: str) -> Job:
        """How far a job is.

        Raises:
            GatewayError: there is no such job.
            GatewayUnreachableError: no gateway there.
        """
        return self._answer(calls.job(job_id))

    def jobs(self, *, limit: int = 20, after: str | None = None) -> list[Job]:
        """The newest jobs, or those older than the one whose id is `after`."""
        return self._answer(calls.jobs(limit, after))

    def wait(self, job_id: str, *, on_progress: Callable[[Job], None] | None = None) -> Job:
        """Wait until nothing more will happen to a job; look at its `status` then.

        Args:
            job_id: of the job.
            on_progress: told how far it is every two seconds.
        """
        while True:
            job = self.job(job_id)
            if on_progress is not None:
                on_progress(job)
            if job.is_finished:
                return job
            time.sleep(POLL_SECONDS)

    def cancel(self, job_id: str) -> Job:
        """Stop a job; what it has done stays, to be downloaded or deleted."""
        return self._answer(calls.cancel(job_id))

    def delete(self, job_id: str) -> None:
        """Forget a finished job and its result."""
        self._answer(calls.delete(job_id))

    def download(self, job_id: str, path: str | os.PathLike[str], *, format: ResultFormat = "parquet") -> Path:
        """Save a job's result; the file is there whole or not at all.

        Raises:
            GatewayError: the job is not finished, or there is no such job.
        """
        call, target = calls.download(job_id, format), Path(path)

        def saved() -> Path:
            with call.arguments() as request, self._http.stream(**request) as response, _whole(target) as file:
                if not response.is_success:
                    response.read()
                    raise refusal_of(response)
                for chunk in response.iter_bytes():
                    file.write(chunk)
            return target

        return self._patiently(saved, repeatable=True)

    def models(self) -> list[Model | LanguageModel]:
        """The models the gateway serves, and its captioner."""
        return self._answer(calls.models())

    def ready(self) -> bool:
        """Whether the gateway is there and its model answers; does not wait."""
        try:
            return self._http.get("/readyz").is_success
        except httpx.TransportError:
            return False

    def close(self) -> None:
        """Close the connections; no request is tried again."""
        self._closed.set()
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _answer(self, call: Call[T]) -> T:
        def sent() -> T:
            with call.arguments() as request:
                return _read(call, self._http.request(**request))

        return self._patiently(sent, repeatable=call.repeatable)

    def _patiently(self, send: Callable[[], T], *, repeatable: bool) -> T:
        tries = Tries(self._retries, repeatable=repeatable)
        while True:
            try:
                with _in_words(self._http, self._retries):
                    return send()
            except (GatewayError, GatewayUnreachableError) as error:
                # A thread of `each` must not wait for a gateway when the program has ended.
                if self._closed.wait(tries.pause_after(error)):
                    raise


class AsyncClient:
    """Asynchronous client; its calls are those of `Client`.

    Args:
        base_url: of the gateway.
        api_key: sent as bearer token; SEFAR_API_KEY of the environment if left out.
        timeout: seconds for each try.
        patience: seconds after which no new try of a request is made; 0 makes one try.
    """

    def __init__(
        self,
        base_url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        patience: float = DEFAULT_PATIENCE,
    ) -> None:
        self._http = httpx.AsyncClient(base_url=_address(base_url), headers=_headers(api_key), timeout=timeout)
        self._retries = Retries(patience)

    async def classify(self, video: Video, **options: Unpack[ClassifyOptions]) -> Classification:
        """See `Client.classify`."""
        return await self._answer(calls.classify(video, options))

    async def embed(self, video: Video, **options: Unpack[EmbedOptions]) -> Embedding:
        """See `Client.embed`."""
        return await self._answer(calls.embed(video, options))

    async def caption(self, video: Video, **options: Unpack[CaptionOptions]) -> Caption:
        """See `Client.caption`."""
        return await self._answer(calls.caption(video, options))

    async def ask(self, video: Video, question: str, **options: Unpack[AskOptions]) -> ChatCompletion:
        """See `Client.ask`."""
        # It reads the whole video, and writes it as base64.
        return await self._answer(await asyncio.to_thread(calls.ask, video, question, options))

    def each(
        self, call: Callable[[V], Awaitable[T]], videos: Iterable[V] | AsyncIterable[V], *, at_once: int = 8
    ) -> AsyncIterator[T | Failure]:
        """See `Client.each`; the videos may come asynchronously, too."""
        return many.each_async(call, videos, at_once)

    async def submit(
        self,
        clips: Sequence[JobClip] | str | os.PathLike[str] | BinaryIO,
        *,
        key: str | None = None,
        **options: Unpack[JobOptions],
    ) -> Job:
        """See `Client.submit`."""
        return await self._answer(calls.submit(clips, options, key))

    async def job(self, job_id: str) -> Job:
        """See `Client.job`."""
        return await self._answer(calls.job(job_id))

    async def jobs(self, *, limit: int = 20, after: str | None = None) -> list[Job]:
        """See `Client.jobs`."""
        return await self._answer(calls.jobs(limit, after))

    async def wait(self, job_id: str, *, on_progress: Callable[[Job], None] | None = None) -> Job:
        """See `Client.wait`."""
        while True:
            job = await self.job(job_id)
            if on_progress is not None:
                on_progress(job)
            if job.is_finished:
                return job
            await asyncio.sleep(POLL_SECONDS)

    async def cancel(self, job_id: str) -> Job:
        """See `Client.cancel`."""
        return await self._answer(calls.cancel(job_id))

    async def delete(self, job_id: str) -> None:
        """See `Client.delete`."""
        await self._answer(calls.delete(job_id))

    async def download(self, job_id: str, path: str | os.PathLike[str], *, format: ResultFormat = "parquet") -> Path:
        """See `Client.download`."""
        call, target = calls.download(job_id, format), Path(path)

        async def saved() -> Path:
            with call.arguments() as request, _whole(target) as file:
                async with self._http.stream(**request) as response:
                    if not response.is_success:
                        await response.aread()
                        raise refusal_of(response)
                    async for chunk in response.aiter_bytes():
                        await asyncio.to_thread(file.write, chunk)
            return target

        return await self._patiently(saved, repeatable=True)

    async def models(self) -> list[Model | LanguageModel]:
        """See `Client.models`."""
        return await self._answer(calls.models())

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

    async def _answer(self, call: Call[T]) -> T:
        async def sent() -> T:
            with call.arguments() as request:
                return _read(call, await self._http.request(**request))

        return await self._patiently(sent, repeatable=call.repeatable)

    async def _patiently(self, send: Callable[[], Awaitable[T]], *, repeatable: bool) -> T:
        tries = Tries(self._retries, repeatable=repeatable)
        while True:
            try:
                with _in_words(self._http, self._retries):
                    return await send()
            except (GatewayError, GatewayUnreachableError) as error:
                pause = tries.pause_after(error)
            await asyncio.sleep(pause)


def _address(base_url: str) -> str:
    """The address alone: who knows OpenAI's clients writes /v1 behind it."""
    return base_url.rstrip("/").removesuffix("/v1")


def _headers(api_key: str | None) -> dict[str, str]:
    key = api_key or os.environ.get("SEFAR_API_KEY")
    return {"authorization": f"Bearer {key}"} if key else {}


def _read(call: Call[T], response: httpx.Response) -> T:
    if not response.is_success:
        raise refusal_of(response)
    try:
        return call.read(response.json() if response.content else None)
    except (ValueError, LookupError, TypeError) as error:
        raise GatewayError(
            f"{response.url} answered {response.status_code}, but not as a sefar-serve gateway of this version does; "
            "is the address right?",
            status=response.status_code,
            code="unknown",
            request_id=response.headers.get("x-request-id"),
        ) from error


@contextmanager
def _in_words(http: httpx.Client | httpx.AsyncClient, retries: Retries) -> Iterator[None]:
    """Turn a failed connection into our error, and note when there was none."""
    try:
        yield
    except httpx.TransportError as error:
        raise unreachable(error, http.base_url, http.timeout.read or 0.0) from error
    except GatewayError:
        retries.answered = True
        raise
    retries.answered = True


@contextmanager
def _whole(target: Path) -> Iterator[BinaryIO]:
    """A file that takes its name when it is complete."""
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        with partial.open("xb") as file:
            yield file
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
