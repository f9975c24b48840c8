"""The remote engine: models of an NVIDIA Triton server, over gRPC or shared memory.

Triton forms the batches; the gateway sends one clip per request. It limits the number of clips in flight,
gives each a deadline, retries only when the connection was lost, and checks readiness by running the
model. A model's description (labels, sampling, sizes) is read from its configuration on the server, which
`sefar export --repository` wrote from the model's metadata.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from tritonclient.grpc.aio import InferenceServerClient, InferInput, InferRequestedOutput, InferResult
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from sefar_serve.engine.base import Inputs, Outputs, Prediction
from sefar_serve.engine.errors import (
    EngineError,
    EngineOverloadedError,
    EngineTimeoutError,
    EngineUnavailableError,
    InferenceError,
    ModelLoadError,
    ModelNotFoundError,
)
from sefar_serve.engine.triton.breaker import CircuitBreaker
from sefar_serve.engine.triton.memory import CALL_SECONDS, RegionPool, status_of
from sefar_serve.engine.triton.served import TritonModel, described, sent_shape

log = logging.getLogger(__name__)

CHANNEL_OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # A name with several addresses (a headless service) is several servers; by default the first gets all requests.
    ("grpc.lb_policy_name", "round_robin"),
    # gRPC's default pauses between attempts to connect grow to two minutes, far longer than a server needs to restart.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 500),
]
RETRY_PAUSES = (0.05, 0.2)
"""Seconds to wait before each retry after a lost connection."""


@dataclass(frozen=True)
class TritonOptions:
    """How to use a Triton server.

    Attributes:
        url: host:port of its gRPC endpoint.
        models: Triton's names of the models to serve, the default first; empty for all that have SeFAR metadata.
        shared_memory: pass tensors through /dev/shm, for a server on the same machine.
        timeout: seconds that an inference may take, including the server's queue.
        max_inflight: maximum number of clips in flight; more are refused.
        probe: seconds that an idle model has to answer the readiness probe, and for which an answer counts.
        refresh: seconds between updates of the list of models.
        failures: lost connections or missed deadlines in a row after which clips are refused at once.
        pause: seconds for which they are refused.
    """

    url: str
    models: tuple[str, ...] = ()
    shared_memory: bool = False
    timeout: float = 30.0
    max_inflight: int = 256
    probe: float = 1.0
    refresh: float = 2.0
    failures: int = 5
    pause: float = 1.0


class TritonEngine:
    """Serves the models of one Triton server. See `sefar_serve.engine.base.Engine`.

    Args:
        options: where the server is and how to talk to it.
    """

    def __init__(self, options: TritonOptions) -> None:
        self._options = options
        self._models: dict[str, TritonModel] = {}
        self._breaker = CircuitBreaker(options.failures, options.pause)
        self._regions: RegionPool | None = None
        self._client: InferenceServerClient | None = None
        self._watch: asyncio.Task[None] | None = None
        self._inflight = 0
        self._idle = asyncio.Event()
        self._closing = False
        self._last_success = -float("inf")
        self._trouble = f"the Triton server at {options.url} has not answered yet"

    @property
    def models(self) -> Sequence[TritonModel]:
        """The served models, the default first."""
        return list(self._models.values())

    @property
    def queue_depth(self) -> int:
        """Number of clips sent but not yet answered; only Triton knows which of them are still waiting."""
        return self._inflight

    @property
    def client(self) -> InferenceServerClient:
        """The connection.

        Raises:
            EngineUnavailableError: the engine is not started, or closed.
        """
        if self._client is None:
            raise EngineUnavailableError("the engine is not running")
        return self._client

    def model(self, name: str | None) -> TritonModel:
        """Find a model; see `Engine.model`."""
        if not self._models:
            raise EngineUnavailableError(self._trouble)
        if name is None:
            return next(iter(self._models.values()))
        known = self._models.get(name)
        if known is not None:
            return known
        base, _, version = name.rpartition(":")
        known = self._models.get(base)
        if known is not None and version in known.versions:
            return known.at(version)
        there = ", ".join(f"{model} ({', '.join(found.versions)})" for model, found in self._models.items())
        raise ModelNotFoundError(f"there is no model {name!r}; the available models (versions) are {there}")

    async def start(self) -> None:
        """Connect. If the server cannot be reached yet, keep trying in the background.

        Raises:
            ModelLoadError: a requested model is not a SeFAR model, or what the server serves contradicts itself.
        """
        self._client = InferenceServerClient(self._options.url, channel_args=CHANNEL_OPTIONS)
        if self._options.shared_memory:
            self._regions = RegionPool(self._client, self.send, patience=2 * self._options.timeout)
        try:
            await self._refresh()
            await self.check()
        except ModelLoadError:
            await self.close()
            raise
        except EngineError as error:
            log.warning("%s; retrying", error)
            self._trouble = str(error)
        except Exception as error:  # as in `_keep_refreshing`
            log.exception("cannot read the list of Triton models; retrying")
            self._trouble = f"the answer of the Triton server at {self._options.url} cannot be used: {error}"
        self._watch = asyncio.create_task(self._keep_refreshing(), name="sefar-triton-watch")

    async def close(self) -> None:
        """Wait for clips in flight, then disconnect and release shared memory."""
        self._closing = True
        while self._inflight:
            self._idle.clear()
            await self._idle.wait()
        if self._watch is not None:
            self._watch.cancel()
            with suppress(asyncio.CancelledError):
                await self._watch
            self._watch = None
        if self._regions is not None:
            await self._regions.close()
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def check(self) -> None:
        """Check that the default model answers: run it, unless there is an answer from the last `probe` seconds.

        Raises:
            EngineError: if it does not.
        """
        if time.monotonic() - self._last_success <= self._options.probe:
            return
        model = self.model(None)
        with suppress(EngineOverloadedError):  # a server that says it is busy is alive
            await self._ask(model, model.metadata.zero_clip, self._options.probe)

    async def infer(self, model: TritonModel, inputs: Inputs) -> Prediction:
        """Run a model on a clip's inputs in the right shapes; see `Model.infer`."""
        if self._closing:
            raise EngineUnavailableError("the engine is shutting down")
        if self._inflight >= self._options.max_inflight:
            raise EngineOverloadedError(f"{self._inflight} clips are already at the model server; try again later")
        self._inflight += 1
        started = time.perf_counter()
        try:
            outputs, version = await self._with_retries(model, inputs, started + self._options.timeout)
        finally:
            self._inflight -= 1
            self._idle.set()
        return Prediction(outputs, version, 0.0, time.perf_counter() - started, 1)

    async def _with_retries(self, model: TritonModel, inputs: Inputs, deadline: float) -> tuple[Outputs, str]:
        """Run an inference, with a few retries if the connection is lost. Inferences have no side effects."""
        for pause in (*RETRY_PAUSES, None):
            self._breaker.admit()
            remaining = deadline - time.perf_counter()
            try:
                return await self._ask(model, inputs, max(remaining, 0.001))
            except _ConnectionLostError:
                if pause is None or remaining <= pause:
                    raise
            await asyncio.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    async def _ask(self, model: TritonModel, inputs: Inputs, seconds: float) -> tuple[Outputs, str]:
        """One attempt."""
        try:
            if self._regions is None:
                answer = await self._by_value(model, inputs, seconds)
            else:
                answer = await self._regions.exchange(model, inputs, seconds)
        except InferenceServerException as error:
            raise self._converted(error, model, seconds) from error
        self._breaker.succeeded()
        self._last_success = time.monotonic()
        return answer

    async def _by_value(self, model: TritonModel, inputs: Inputs, seconds: float) -> tuple[Outputs, str]:
        given = []
        for name, values in inputs.items():
            given.append(InferInput(name, [1, *values.shape], np_to_triton_dtype(values.dtype)))
            given[-1].set_data_from_numpy(values[None])
        shapes = model.metadata.output_shapes
        result = await self.send(model, given, [InferRequestedOutput(name) for name in shapes], seconds)
        found = {}
        for name, shape in shapes.items():
            value = result.as_numpy(name)
            if value is None or value.shape != (1, *sent_shape(shape)):
                raise InferenceError(
                    f"the Triton model {model.served!r} returned {name!r} in another shape than its description says; "
                    "write its configuration again with `sefar export --repository`"
                )
            found[name] = value.reshape(1, *shape)
        return Outputs(**found).row(0), result.get_response().model_version

    async def send(
        self, model: TritonModel, given: list[InferInput], wanted: list[InferRequestedOutput], seconds: float
    ) -> InferResult:
        """Send one request; a caller that gives up cancels it."""
        return await self.client.infer(
            model.served,
            given,
            model_version=model.metadata.version if model.bound else "",
            outputs=wanted,
            client_timeout=seconds,
            timeout=int(seconds * 1e6),  # Triton then drops it from its queue when nobody waits for it any more
        )

    def _converted(self, error: InferenceServerException, model: TritonModel, seconds: float) -> EngineError:
        """Convert Triton's error to our own, and record whether the server failed to answer."""
        status, message = status_of(error), str(error.message())
        if status == "DEADLINE_EXCEEDED" or "timeout expired" in message.lower():
            self._no_answer()
            return EngineTimeoutError(f"the model server did not answer within {seconds:.3g} s")
        if status == "UNAVAILABLE" and "maximum queue size" in message:
            self._breaker.succeeded()
            return EngineOverloadedError("the model server's queue is full; try again later")
        if status in ("UNAVAILABLE", "CANCELLED"):
            self._no_answer()
            return _ConnectionLostError(f"the Triton server at {self._options.url} cannot be reached")
        self._breaker.succeeded()
        if status == "NOT_FOUND":
            if model.bound:
                return ModelNotFoundError(f"version {model.metadata.version} of {model.metadata.name} is not served")
            return EngineUnavailableError(f"{model.metadata.name} is not loaded on the model server")
        log.warning("the Triton model %s failed on a clip: %s", model.served, message)
        return InferenceError(f"the model failed on this clip: {message}")

    def _no_answer(self) -> None:
        self._breaker.failed()
        self._last_success = -float("inf")

    async def _keep_refreshing(self) -> None:
        """Keep the list of models up to date."""
        while True:
            await asyncio.sleep(self._options.refresh if self._models else min(0.5, self._options.refresh))
            try:
                await self._refresh()
                if self._regions is not None:
                    await self._regions.tidy()
            except EngineError as error:
                if str(error) != self._trouble:
                    log.warning("%s", error)
                self._trouble = str(error)
            # Whatever else a server's answer causes must not end this task: models would never be updated again, and
            # a server that was away at the start would never be used.
            except Exception as error:
                trouble = f"the answer of the Triton server at {self._options.url} cannot be used: {error}"
                if trouble != self._trouble:
                    log.exception("cannot update the list of Triton models; retrying")
                self._trouble = trouble

    async def _refresh(self) -> None:
        """Find out which models are ready, and read their descriptions.

        Raises:
            EngineUnavailableError: the server cannot be reached, or serves no SeFAR model yet.
            ModelLoadError: a requested model is not a SeFAR model, or a model contradicts its description.
        """
        try:
            index = await self.client.get_model_repository_index(client_timeout=CALL_SECONDS)
            ready: dict[str, list[int]] = {}
            for entry in index.models:
                if entry.state == "READY":
                    ready.setdefault(entry.name, []).append(int(entry.version))
            wanted = self._options.models or tuple(sorted(ready))
            found: dict[str, TritonModel] = {}
            for name in wanted:
                if name not in ready:
                    continue
                answer = await self.client.get_model_config(name, client_timeout=CALL_SECONDS)
                metadata = described(answer.config, required=name in self._options.models)
                if metadata is None:
                    continue
                if metadata.name in found:
                    raise ModelLoadError(
                        f"the Triton models {found[metadata.name].served!r} and {name!r} both have the name "
                        f"{metadata.name!r}; export one of them with another --name, or list the models to serve in "
                        "SEFAR_TRITON_MODELS"
                    )
                versions = tuple(map(str, sorted(ready[name], reverse=True)))
                metadata = metadata.model_copy(update={"version": versions[0]})
                found[metadata.name] = TritonModel(self.infer, name, metadata, versions)
        except InferenceServerException as error:
            # Keep the known models: clips are answered again as soon as the server is back.
            raise EngineUnavailableError(f"the Triton server at {self._options.url} cannot be reached") from error
        self._models = found
        if not found:
            missing = ", ".join(self._options.models) or "any SeFAR model"
            reasons = "; ".join(f"{e.name} {e.version}: {e.reason}" for e in index.models if e.state != "READY")
            raise EngineUnavailableError(
                f"the Triton server at {self._options.url} does not serve {missing}"
                + (f" ({reasons})" if reasons else "")
            )


class _ConnectionLostError(EngineUnavailableError):
    """The outcome of the request is unknown; it may be sent again."""
