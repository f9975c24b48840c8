"""The blocking and the asynchronous client, with the same calls and the same answers."""

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
from sefar_client.connection import DEFAULT_URL, LIMITS, address, headers, read, translate_errors
from sefar_client.downloads import ResultFormat, atomic_file, check_type
from sefar_client.errors import GatewayError, GatewayUnreachableError, refusal_of
from sefar_client.results import Classification, Embedding
from sefar_client.retries import Retries, Tries
from sefar_client.served import Job, LanguageModel, Model
from sefar_client.texts import Caption, ChatCompletion
from sefar_client.videos import Failure, Video

T = TypeVar("T")
V = TypeVar("V", bound=Video)

DEFAULT_TIMEOUT = 150.0
"""Seconds; slightly more than the gateway allows a request by default."""
DEFAULT_PATIENCE = 120.0
"""Seconds; longer than a gateway restart, or than a full queue takes to drain."""
POLL_SECONDS = 2.0


class Client:
    """Blocking client. Several threads may share it.

    A request that the gateway refuses as overloaded (429), or that a restart interrupts, is sent again after the time
    that the gateway asks for plus a random delay. If the gateway has never answered this client, requests are not sent
    again.

    Args:
        base_url: address of the gateway.
        api_key: API key, sent as a bearer token; by default from the environment variable SEFAR_API_KEY.
        timeout: seconds that an attempt may pass without sending or receiving a byte. The whole attempt may take
            longer, for example to upload a long video.
        patience: seconds after which a request is not sent again; with 0 it is sent once.

    Raises:
        ValueError: the address is invalid, or the key has a character that cannot be sent.
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
        """Get fine-grained labels of a video.

        Args:
            video: see `Video`.
            options: see `ClassifyOptions`.

        Raises:
            GatewayError: the gateway refused the request.
            GatewayUnreachableError: no gateway answers.
            OSError: the video cannot be read.
            TypeError: an option does not exist, or `video` cannot be a video.
        """
        return self._answer(calls.classify(video, options))

    def embed(self, video: Video, **options: Unpack[EmbedOptions]) -> Embedding:
        """Get the embedding and the element tokens of a video as numpy arrays.

        Args:
            video: see `Video`.
            options: see `EmbedOptions`.

        Raises:
            GatewayError, GatewayUnreachableError, OSError, TypeError: as for `classify`.
        """
        return self._answer(calls.embed(video, options))

    def caption(self, video: Video, **options: Unpack[CaptionOptions]) -> Caption:
        """Get a sentence about a video.

        Args:
            video: see `Video`.
            options: see `CaptionOptions`.

        Raises:
            GatewayError, GatewayUnreachableError, OSError, TypeError: as for `classify`; GatewayError also if there is
                no language model.
        """
        return self._answer(calls.caption(video, options))

    def ask(self, video: Video, question: str, **options: Unpack[AskOptions]) -> ChatCompletion:
        """Ask a question about a video.

        Args:
            video: see `Video`; or ``sefar://CLIP_ID`` for a clip that the gateway has seen before.
            question: with or without options ``A.… B.… C.… D.…``.
            options: see `AskOptions`.

        Raises:
            GatewayError, GatewayUnreachableError, OSError, TypeError: as for `caption`.
        """
        return self._answer(calls.ask(video, question, options))

    def each(self, call: Callable[[V], T], videos: Iterable[V], *, at_once: int = 8) -> Iterator[T | Failure]:
        """Make a call for each of many videos: ``each(sefar.classify, paths)``, with `functools.partial` for options.

        Args:
            call: `classify`, `embed`, or any function of a video.
            videos: read as needed, so there may be any number.
            at_once: maximum number of calls in flight.

        Yields:
            Exactly one result per video, in order: the answer, or a `Failure` if the error concerns this video only.

        Raises:
            GatewayError, GatewayUnreachableError: an error that would affect the other videos, too.
            ValueError: `at_once` is below 1.
            Exception: an error that `videos` raised, after the results of the videos before it.
        """
        return many.each(call, videos, at_once)

    def submit(
        self,
        clips: Sequence[Mapping[str, object]] | str | os.PathLike[str] | BinaryIO,
        *,
        key: str | None = None,
        **options: Unpack[JobOptions],
    ) -> Job:
        """Submit a batch job: features and labels of many clips that the gateway can reach itself.

        Args:
            clips: a list of `JobClip`, or a manifest as a path or an open file (CSV, JSONL or Parquet with the columns
                of `JobClip`; the suffix of its name gives the format).
            key: idempotency key: the same key and clips give the same job again. Random by default.
            options: see `JobOptions`.

        Raises:
            GatewayError, GatewayUnreachableError, OSError, TypeError: as for `classify`, with `clips` as the video.
            ValueError: an open manifest has no name.
        """
        return self._answer(calls.submit(clips, options, key))

    def job(self, job_id: str | Job) -> Job:
        """Get the state of a job. Here and below, a job is given as its id or as a `Job`.

        Raises:
            GatewayError: the job does not exist.
            GatewayUnreachableError: no gateway answers.
            TypeError, ValueError: `job_id` cannot be a job.
        """
        return self._answer(calls.job(job_id))

    def jobs(self, *, limit: int = 20, after: str | Job | None = None) -> list[Job]:
        """List the newest jobs, or those older than the job `after`."""
        return self._answer(calls.jobs(limit, after))

    def wait(self, job_id: str | Job, *, on_progress: Callable[[Job], None] | None = None) -> Job:
        """Wait until a job has finished, and return it; its `status` says how.

        Args:
            job_id: the job.
            on_progress: called with the job every two seconds.
        """
        while True:
            job = self.job(job_id)
            if on_progress is not None:
                on_progress(job)
            if job.is_finished:
                return job
            time.sleep(POLL_SECONDS)

    def cancel(self, job_id: str | Job) -> Job:
        """Cancel a job. Its rows so far can be downloaded or deleted."""
        return self._answer(calls.cancel(job_id))

    def delete(self, job_id: str | Job) -> None:
        """Delete a finished job and its result."""
        self._answer(calls.delete(job_id))

    def download(self, job_id: str | Job, path: str | os.PathLike[str], *, format: ResultFormat = "parquet") -> Path:
        """Save the result of a job. The file is written atomically.

        Raises:
            GatewayError: the job has not finished, it does not exist, or the answer is not a result.
            OSError: the file cannot be written.
            ValueError: unknown format.
        """
        call, target = calls.download(job_id, format), Path(path)

        def saved() -> Path:
            with atomic_file(target) as file, call.arguments() as request, self._http.stream(**request) as response:
                if not response.is_success:
                    response.read()
                    raise refusal_of(response)
                check_type(response, format)
                for chunk in response.iter_bytes():
                    file.write(chunk)
            return target

        return self._with_retries(saved, Tries(self._retries, repeatable=True))

    def models(self) -> list[Model | LanguageModel]:
        """List the models that the gateway serves, and its captioner."""
        return self._answer(calls.models())

    def ready(self) -> bool:
        """Whether the gateway is up and its model answers. Does not retry."""
        try:
            return self._http.get("/readyz").is_success
        except httpx.RequestError:
            return False

    def close(self) -> None:
        """Close the connections. Requests are no longer sent again, and new requests raise RuntimeError."""
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

        return self._with_retries(sent, tries)

    def _with_retries(self, send: Callable[[], T], tries: Tries) -> T:
        while True:
            try:
                with translate_errors(self._http, self._retries):
                    return send()
            except (GatewayError, GatewayUnreachableError) as error:
                # Stop waiting on `close`: a thread of `each` must not wait for a gateway when the program has ended.
                if self._closed.wait(tries.pause_after(error)):
                    raise


class AsyncClient:
    """Asynchronous client with the calls of `Client`.

    Args:
        base_url: address of the gateway.
        api_key: API key, sent as a bearer token; by default from the environment variable SEFAR_API_KEY.
        timeout: seconds that an attempt may pass without sending or receiving a byte. The whole attempt may take
            longer, for example to upload a long video.
        patience: seconds after which a request is not sent again; with 0 it is sent once.

    Raises:
        ValueError: the address is invalid, or the key has a character that cannot be sent.
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
        # Reads the whole video and encodes it as base64.
        return await self._answer(await asyncio.to_thread(calls.ask, video, question, options))

    def each(
        self, call: Callable[[V], Awaitable[T]], videos: Iterable[V] | AsyncIterable[V], *, at_once: int = 8
    ) -> AsyncIterator[T | Failure]:
        """See `Client.each`; `videos` may also be an asynchronous iterable."""
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
            with atomic_file(target) as file, call.arguments() as request:
                async with self._http.stream(**request) as response:
                    if not response.is_success:
                        await response.aread()
                        raise refusal_of(response)
                    check_type(response, format)
                    async for chunk in response.aiter_bytes():
                        await asyncio.to_thread(file.write, chunk)
            return target

        return await self._with_retries(saved, Tries(self._retries, repeatable=True))

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

        return await self._with_retries(sent, tries)

    async def _with_retries(self, send: Callable[[], Awaitable[T]], tries: Tries) -> T:
        while True:
            try:
                with translate_errors(self._http, self._retries):
                    return await send()
            except (GatewayError, GatewayUnreachableError) as error:
                pause = tries.pause_after(error)
            await asyncio.sleep(pause)
