"""Decoding of clips that may be URLs: they are fetched under the gateway's own rules, never by another library."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from sefar_serve.clip import ClipError
from sefar_serve.extract.clips import ClipRef, unwritable
from sefar_serve.extract.decoders import DecodeError, DecoderPool
from sefar_serve.fetch import UrlError, UrlFetcher
from sefar_serve.inputs import ModelClip

FETCH_THREADS = 8
"""Number of a job's videos that are fetched concurrently."""


class FetchingDecoders:
    """Decoders that first fetch clips given by URL. Close it when the job ends.

    Args:
        decoders: decodes files.
        fetcher: fetches URLs.
        folder: stores fetched files until they are decoded. Created here, removed by `close`.
    """

    def __init__(self, decoders: DecoderPool, fetcher: UrlFetcher, folder: Path) -> None:
        self._decoders = decoders
        self._fetcher = fetcher
        shutil.rmtree(folder, ignore_errors=True)  # left by a killed process
        folder.mkdir()
        self._folder = folder
        self._threads = ThreadPoolExecutor(FETCH_THREADS, thread_name_prefix="sefar-job-fetch")

    @asynccontextmanager
    async def decoded(self, ref: ClipRef) -> AsyncIterator[ModelClip]:
        """See `DecoderPool.decoded`."""
        if "://" not in ref.path:
            async with self._decoders.decoded(ref) as clip:
                yield clip
            return
        loop = asyncio.get_running_loop()
        file = await loop.run_in_executor(self._threads, self._fetch, ref.path)
        try:
            async with self._decoders.decoded(replace(ref, path=str(file))) as clip:
                file.unlink()  # the model needs only the clip
                yield clip
        except DecodeError as error:
            raise DecodeError(error.code, str(error).replace(str(file), ref.path)) from error
        finally:
            file.unlink(missing_ok=True)

    def _fetch(self, url: str) -> Path:
        try:
            video = self._fetcher.fetch(url)
        except (ClipError, UrlError) as error:
            raise DecodeError(error.code, str(error)) from error
        try:
            with video, tempfile.NamedTemporaryFile(dir=self._folder, delete=False) as file:
                shutil.copyfileobj(video, file)
        except OSError as error:
            raise unwritable(self._folder, error) from error
        return Path(file.name)

    def close(self) -> None:
        """Remove fetched files without waiting for slow hosts; a fetch that is still running fails to save its file."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        shutil.rmtree(self._folder, ignore_errors=True)
