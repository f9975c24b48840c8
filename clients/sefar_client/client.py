"""The client, blocking and asynchronous: the same calls, the same answers."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, TypeVar, Unpack

import httpx

from sefar_client import calls, many
from sefar_client.calls import AskOptions, Call, CaptionOptions, ClassifyOptions, EmbedOptions, JobOptions
from sefar_client.connection import DEFAULT_URL, LIMITS, address, headers, in_words, read
from sefar_client.downloads import ResultFormat, check_type, whole
from sefar_client.errors import GatewayError, GatewayUnreachableError, refusal_of
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

DEFAULT_TIMEOUT = 150.0
"""Seconds; a little more than the gateway itself allows a request by default."""
DEFAULT_PATIENCE = 120.0
"""Seconds; a gateway's restart, and a queue that empties, take less."""
POLL_SECONDS = 2.0


class Client:
    """Blocking client; several threads may share it.

    A request that the gateway has no place for (429), or that a restart cuts off, is sent again, after the time that
    the gateway asks for and a random bit more. A gateway that never answered this client is not waited for.

    Args:
        base_url: of the gateway.
        api_key: sent as bearer token; SEFAR_API_KEY of the environment if left out.
        timeout: seconds that a try may pass without a byte, sent or received. A try that goes on may take longer, as
            the upload of a long video does.
        patience: seconds after which no new try of a request is made; 0 makes one try.

    Raises:
        ValueError: no gateway can be at this address, or the key has a character that cannot be sent.
    """

    def __init__(
        self,
        base_url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        patience: float = DEFAULT_PATIENCE,
    ) -> None:
        self._http = httpx.Client(base_url=address(base_url), headers=headers(api_key), timeout=timeout, limits=LIMITS)
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
            OSError: the video cannot be read.
            TypeError: an option that does not exist, or what can be no video.
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
        clips: Sequence[Mapping[str, object]] | str | os.PathLike[str] | BinaryIO,
        *,
        key: str | None = None,
        **options: Unpack[JobOptions],
    ) -> Job:
        """Give the gateway a batch job: features and labels of many clips that it can reach itself.

        Args:
            clips: a list of `JobClip`, or a manifest by its path or as an open file (CSV, JSONL or Parquet with the
                columns of `JobClip`; its name says which).
            key: the same key and clips give the same job again; a random one if left out.
            options: see `JobOptions`.

        Raises:
            GatewayError, GatewayUnreachableError, OSError, TypeError: as `classify`; also where `clips` are no clips.
            ValueError: an open manifest has no name.
        """
        return self._answer(calls.submit(clips, options, key))

    def job(self, job_id: str | Job) -> Job:
        """How far a job is; a job is named by its id or given as it is, here and below.

        Raises:
            GatewayError: there is no such job.
            GatewayUnreachableError: no gateway there.
            TypeError, ValueError: what was given can be no job.
        """
        return self._answer(calls.job(job_id))

    def jobs(self, *, limit: int = 20, after: str | Job | None = None) -> list[Job]:
        """The newest jobs, or those older than the one whose id is `after`."""
        return self._answer(calls.jobs(limit, after))

    def wait(self, job_id: str | Job, *, on_progress: Callable[[Job], None] | None = None) -> Job:
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

    def cancel(self, job_id: str | Job) -> Job:
        """Stop a job; what it has done stays, to be downloaded or deleted."""
        return self._answer(calls.cancel(job_id))

    def delete(self, job_id: str | Job) -> None:
        """Forget a finished job and its result."""
        self._answer(calls.delete(job_id))

    def download(self, job_id: str | Job, path: str | os.PathLike[str], *, format: ResultFormat = "parquet") -> Path:
        """Save a job's result; the file is there whole or not at all.

        Raises:
            GatewayError: the job is not finished, there is no such job, or a result is not what was answered.
            OSError: the file cannot be written.
            ValueError: no such format.
        """
        call, target = calls.download(job_id, format), Path(path)

        def saved() -> Path:
            with whole(target) as file, call.arguments() as request, self._http.stream(**request) as response:
                if not response.is_success:
                    response.read()
                    raise refusal_of(response)
                check_type(response, format)
                for chunk in response.iter_bytes():
                    file.write(chunk)
            return target

        return self._patiently(saved, Tries(self._retries, repeatable=True))

    def models(self) -> list[Model | LanguageModel]:
        """The models the gateway serves, and its captioner."""
        return self._answer(calls.models())

    def ready(self) -> bool:
        """Whether the gateway is there and its model answers; does not wait."""
        try:
            return self._http.get("/readyz").is_success
        except httpx.RequestError:
            return False

    def close(self) -> None:
        """Close the connections; no request is tried again, and a new one is a RuntimeError."""
        self._closed.set()
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _answer(self, call: Call[T]) -> T:
        tries = Tries(self._retries, repeatable=call.repeatable)

        def sent() -> T:
            with call.arguments() as request:
                return read(call, self._http.request(**request), tries)

        return self._patiently(sent, tries)

    def _patiently(self, send: Callable[[], T], tries: Tries) -> T:
        while True:
            try:
                with in_words(self._http, self._retries):
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
        timeout: seconds that a try may pass without a byte, sent or received. A try that goes on may take longer, as
            the upload of a long video does.
        patience: seconds after which no new try of a request is made; 0 makes one try.

    Raises:
        ValueError: no gateway can be at this address, or the key has a character that cannot be sent.
    """

    def __init__(
        self,
        base_url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        patience: float = DEFAULT_PATIENCE,
    ) -> None:
        self._http = httpx.AsyncClient(
            base_url=address(base_url), headers=headers(api_key), timeout=timeout, limits=LIMITS
        )
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
        clips: Sequence[Mapping[str, object]] | str | os.PathLike[str] | BinaryIO,
        *,
        key: str | None = None,
        **options: Unpack[JobOptions],
    ) -> Job:
        """See `Client.submit`."""
        return await self._answer(calls.submit(clips, options, key))

    async def job(self, job_id: str | Job) -> Job:
        """See `Client.job`."""
        return await self._answer(calls.job(job_id))

    async def jobs(self, *, limit: int = 20, after: str | Job | None = None) -> list[Job]:
        """See `Client.jobs`."""
        return await self._answer(calls.jobs(limit, after))

    async def wait(self, job_id: str | Job, *, on_progress: Callable[[Job], None] | None = None) -> Job:
        """See `Client.wait`."""
        while True:
            job = await self.job(job_id)
            if on_progress is not None:
                on_progress(job)
            if job.is_finished:
                return job
            await asyncio.sleep(POLL_SECONDS)

    async def cancel(self, job_id: str | Job) -> Job:
        """See `Client.cancel`."""
        return await self._answer(calls.cancel(job_id))

    async def delete(self, job_id: str | Job) -> None:
        """See `Client.delete`."""
        await self._answer(calls.delete(job_id))

    async def download(
        self, job_id: str | Job, path: str | os.PathLike[str], *, format: ResultFormat = "parquet"
    ) -> Path:
        """See `Client.download`."""
        call, target = calls.download(job_id, format), Path(path)

        async def saved() -> Path:
            with whole(target) as file, call.arguments() as request:
                async with self._http.stream(**request) as response:
                    if not response.is_success:
                        await response.aread()
                        raise refusal_of(response)
                    check_type(response, format)
                    async for chunk in response.aiter_bytes():
                        await asyncio.to_thread(file.write, chunk)
            return target

        return await self._patiently(saved, Tries(self._retries, repeatable=True))

    async def models(self) -> list[Model | LanguageModel]:
        """See `Client.models`."""
        return await self._answer(calls.models())

    async def ready(self) -> bool:
        """See `Client.ready`."""
        try:
            return (await self._http.get("/readyz")).is_success
        except httpx.RequestError:
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
        tries = Tries(self._retries, repeatable=call.repeatable)

        async def sent() -> T:
            with call.arguments() as request:
                return read(call, await self._http.request(**request), tries)

        return await self._patiently(sent, tries)

    async def _patiently(self, send: Callable[[], Awaitable[T]], tries: Tries) -> T:
        while True:
            try:
                with in_words(self._http, self._retries):
                    return await send()
            except (GatewayError, GatewayUnreachableError) as error:
                pause = tries.pause_after(error)
            await asyncio.sleep(pause)
