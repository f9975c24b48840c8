"""Decoding in threads of this process: for files that are trusted, where starting processes does not pay."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from sefar_serve.clip import VideoSource
from sefar_serve.decoding.task import Decoded, DecodeTask, decode
from sefar_serve.metadata import ModelMetadata
from sefar_serve.pose import Estimators


class ThreadDecoders:
    """See `sefar_serve.decoding.Decoders`. A video that is being decoded cannot be stopped.

    Args:
        workers: number of threads.
        estimators: find the joints for models that see them.
    """

    def __init__(self, workers: int, estimators: Estimators) -> None:
        self._estimators = estimators
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="sefar-decode")

    def start(self, *models: ModelMetadata) -> None:
        """Load the pose estimators of these models."""
        for model in models:
            self._estimators.of(model)

    def submit(self, opened: Callable[[], VideoSource], task: DecodeTask) -> Future[Decoded]:
        """See `sefar_serve.decoding.Decoders`."""
        return self._pool.submit(lambda: decode(opened(), task, self._estimators))

    def check(self, model: ModelMetadata) -> Future[object]:
        """Threads cannot fail as processes can; whether they are busy is no reason not to be ready."""
        fine: Future[object] = Future()
        fine.set_result(None)
        return fine

    def close(self) -> None:
        """Wait for running videos, then stop the threads."""
        self._pool.shutdown(wait=True)
