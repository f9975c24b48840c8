"""Prometheus metrics of the gateway; all times are in seconds.

Each application has its own registry, so that two in one process (as in tests) do not share metrics.
"""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from sefar_serve.decoding import END_REASONS, ProcessDecoders
from sefar_serve.jobs.store import JobStore
from sefar_serve.language import Generator
from sefar_serve.language.replies import Reply
from sefar_serve.recognition import Recognised, Recognizer

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_BATCHES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The gateway's metrics.

    Args:
        recognizer: its queue lengths are read at each scrape.
        generator: its queue length is read too; None without a language model.
    """

    def __init__(self, recognizer: Recognizer, generator: Generator | None = None) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "sefar_requests_total", "Requests answered", ["route", "status"], registry=self.registry
        )
        self.request_seconds = self._seconds("sefar_request_seconds", "Duration of a request", ["route"])
        self.clips = Counter(
            "sefar_clips_total", "Videos by outcome: ok, or an error code", ["outcome"], registry=self.registry
        )
        self.rejected = Counter(
            "sefar_rejected_total", "Requests refused because a queue was full", ["reason"], registry=self.registry
        )
        self.decode_seconds = self._seconds("sefar_decode_seconds", "Time to open and decode one video")
        self.pose_seconds = self._seconds("sefar_pose_seconds", "Time to find the joints in one video")
        self.queue_seconds = self._seconds("sefar_queue_seconds", "Time that a clip waited for the model")
        self.inference_seconds = self._seconds("sefar_inference_seconds", "Time of one batch in the model")
        self.batch_size = Histogram(
            "sefar_batch_size", "Size of the batch that a clip was in", buckets=_BATCHES, registry=self.registry
        )
        self.first_token_seconds = self._seconds("sefar_first_token_seconds", "Time to the first part of a text")
        self.tokens = Counter(
            "sefar_language_tokens_total",
            "Tokens read and written by the language model",
            ["kind"],
            registry=self.registry,
        )
        self.replies = Counter(
            "sefar_replies_total",
            "Captions and answers by agreement with the classifier; failed: the stream ended with an error",
            ["agreement"],
            registry=self.registry,
        )
        self._gauge("sefar_queue_depth", "Clips waiting for the model", lambda: recognizer.engine.queue_depth)
        self._gauge("sefar_decoding", "Videos being decoded or waiting", lambda: recognizer.decoding)
        self._gauge("sefar_decoded_bytes", "Memory of decoded clips in bytes", lambda: recognizer.decoded_bytes)
        if generator is not None:
            self._gauge("sefar_generating", "Answers being written or waiting", lambda: generator.queue_depth)

    def watch_processes(self, decoders: ProcessDecoders) -> None:
        """Add the number of decode processes, and of those that have ended."""
        self._gauge("sefar_decode_processes", "Processes that decode videos", lambda: len(decoders.pids))
        ends = Counter(
            "sefar_decode_process_ends_total",
            "Decode processes that have ended: crashed, timeout, stopped because nobody waited any more, killed from "
            "outside, or replaced after many videos, much memory or a slow video",
            ["reason"],
            registry=self.registry,
        )
        for reason in END_REASONS:
            ends.labels(reason)
        decoders.on_end = lambda reason: ends.labels(reason).inc()

    def watch_jobs(self, store: JobStore) -> None:
        """Add a gauge of queued and running batch jobs."""
        jobs = Gauge("sefar_jobs", "Batch jobs that have not ended", ["status"], registry=self.registry)
        for status in ("queued", "running"):
            jobs.labels(status).set_function(lambda status=status: store.counts[status])  # type: ignore[misc]

    def _seconds(self, name: str, text: str, labels: Sequence[str] = ()) -> Histogram:
        return Histogram(name, text, labels, buckets=_SECONDS, registry=self.registry)

    def _gauge(self, name: str, text: str, read: object) -> None:
        Gauge(name, text, registry=self.registry).set_function(read)  # type: ignore[arg-type]

    def observe(self, results: Sequence[Recognised | Exception]) -> None:
        """Count the outcomes and record the timings of a request's videos."""
        for result in results:
            if isinstance(result, Exception):
                self.clips.labels(getattr(result, "code", type(result).__name__)).inc()
                continue
            self.clips.labels("ok").inc()
            self.decode_seconds.observe(result.decode_seconds)
            if result.pose_seconds is not None:
                self.pose_seconds.observe(result.pose_seconds)
            for window in result.windows:
                self.queue_seconds.observe(window.prediction.queue_seconds)
                self.inference_seconds.observe(window.prediction.inference_seconds)
                self.batch_size.observe(window.prediction.batch_size)

    def observe_reply(self, reply: Reply) -> None:
        """Count a finished caption or answer."""
        self.tokens.labels("prompt").inc(reply.usage.prompt_tokens)
        self.tokens.labels("completion").inc(reply.usage.completion_tokens)
        self.replies.labels("abstained" if reply.abstained else reply.agreement or "none").inc()

    def render(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self.registry)
