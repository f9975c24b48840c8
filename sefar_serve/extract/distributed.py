"""Extraction on a Ray cluster: Ray Data's actor pools decode and infer, this process writes.

Ray schedules the work and holds back decoders that run ahead of the model. The work of a lost node is submitted again,
with actors on the remaining nodes. Committed shards record what is done, so a run keeps no state in the cluster.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import socket
import tempfile
import threading
import warnings
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import suppress
from hashlib import sha256
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

# Set before Ray is imported. Otherwise its processes write their logs over the progress bar.
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")

import pyarrow as pa
import ray
import ray.data

from sefar_serve.clip import ClipLimits
from sefar_serve.engine.base import batch_of
from sefar_serve.engine.onnx import OnnxModel
from sefar_serve.extract.clips import ExtractError
from sefar_serve.extract.decoders import DecodeError, DecoderPool
from sefar_serve.extract.rows import ClipRow, RowOptions, failed_row, found_row
from sefar_serve.extract.run import Work
from sefar_serve.inputs import ModelClip
from sefar_serve.metadata import ModelMetadata
from sefar_serve.pose import Estimators

BATCH = 8
"""Clips decoded, sent and inferred together."""

WINDOW = 65_536
"""Clips submitted to Ray at a time. Ray keeps its input in memory, and actors are restarted between windows."""

CONNECT_SECONDS = 5.0

ATTEMPTS = 5
"""Attempts in a row that may return no rows before the run fails."""

LOST_SECONDS = 10.0
"""Pause between those attempts. Ray takes half a minute to notice a lost node, and gives it work until then."""

_Item = tuple[Work, ModelClip | ClipRow]


class RayBackend:
    """Processes clips on a Ray cluster; see `sefar_serve.extract.run.Backend`. The context manager connects to it.

    Every node needs sefar-serve with the same extras, and must reach the videos under the same paths or URLs.

    Args:
        model: local ONNX file; Ray copies it to the nodes.
        options: row contents.
        address: cluster address: ``host:port``, ``auto`` for one that runs on this machine, ``local`` to start one.
        decoders: maximum number of decode actors, one core each; None for all cores of the cluster but one.
        gpus: GPUs per inference actor; 0.5 puts two actors on one GPU, 0 runs inference on a CPU core.
        limits: limits on each video.
        timeout: seconds that decoding a clip may take.
        window: number of clips submitted to Ray at a time.
        estimators: find the joints for a model that sees them; every node needs the same.

    Raises:
        ModelLoadError: the file is not a valid model.
        PoseError: the model sees joints that cannot be found here.
    """

    def __init__(
        self,
        model: Path,
        options: RowOptions,
        *,
        address: str,
        decoders: int | None = None,
        gpus: float = 0.0,
        limits: ClipLimits = ClipLimits(),  # noqa: B008  (frozen)
        timeout: float = 60.0,
        window: int = WINDOW,
        estimators: Estimators | None = None,
    ) -> None:
        self.metadata: ModelMetadata = OnnxModel(model, device="cpu", threads=1).metadata
        self._estimators = estimators if estimators is not None else Estimators()
        self._estimators.of(self.metadata)
        self._content = model.read_bytes()
        self.sha256: str | None = sha256(self._content).hexdigest()
        self._options = options
        self._address = address
        self._decoders = decoders
        self._gpus = gpus
        self._limits = limits
        self._timeout = timeout
        self._window = window
        self._ours = False
        self._model: Any = None

    def __enter__(self) -> Self:
        """Connect to the cluster.

        Raises:
            ExtractError: no cluster answers at the address, or it has too few GPUs.
        """
        self._ours = not ray.is_initialized()
        if self._ours:
            try:
                # Check the port first, because Ray retries for a minute and a half.
                if ":" in self._address and "://" not in self._address:
                    host, _, port = self._address.rpartition(":")
                    socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
                ray.init(address=self._address, log_to_driver=False, logging_level=logging.ERROR)
            # Ray raises ConnectionError, ValueError, RuntimeError and its own errors, depending on the address.
            except Exception as error:
                raise ExtractError(
                    f"no Ray cluster answers at {self._address} ({error}); start one with `ray start --head`, or use "
                    "--ray local"
                ) from error
        try:
            if self._gpus > ray.cluster_resources().get("GPU", 0.0):
                raise ExtractError(
                    f"the Ray cluster at {self._address} has fewer than {self._gpus:g} GPUs; lower --ray-gpus"
                )
            self._model = ray.put(self._content)
        except BaseException:
            self._disconnect()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._disconnect()

    def _disconnect(self) -> None:
        if self._ours:
            ray.shutdown()

    async def rows(self, work: Iterable[Work]) -> AsyncGenerator[tuple[Work, ClipRow]]:
        """Process clips on the cluster. Rows come in the order they are ready."""
        waiting = iter(work)
        while window := list(islice(waiting, self._window)):
            missing = {(one.shard, one.place): one for one in window}
            empty_attempts = 0
            while missing:
                before, lost = len(missing), "it returned no rows"
                try:
                    async for one, row in _in_thread(self._found(list(missing.values()))):
                        # When a node is lost, Ray may recompute rows that it has already returned.
                        if missing.pop((one.shard, one.place), None) is not None:
                            yield one, row
                # Usually a lost node.
                except (ray.exceptions.RayError, ConnectionError) as error:
                    lost = (str(error).strip().splitlines() or [type(error).__name__])[-1]
                empty_attempts = empty_attempts + 1 if len(missing) == before else 0
                if empty_attempts == ATTEMPTS:
                    raise ExtractError(
                        f"the run on the Ray cluster at {self._address} failed ({lost}). Committed rows are kept. Run "
                        "the same command again to resume"
                    )
                if empty_attempts:
                    await asyncio.sleep(LOST_SECONDS)

    def _found(self, window: Sequence[Work]) -> Iterator[tuple[Work, ClipRow]]:
        """Yield the rows of a window. Blocks."""
        cores = max(2, int(ray.cluster_resources().get("CPU", 2)))
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        for logger in ("ray.data", "ray.data._internal.execution.streaming_executor"):
            logging.getLogger(logger).setLevel(logging.CRITICAL)
        items = [{"item": pickle.dumps(one)} for one in window]
        clips = ray.data.from_items(items, override_num_blocks=-(-len(items) // BATCH))
        models = int(ray.cluster_resources().get("GPU", 0.0) / self._gpus) if self._gpus else max(1, cores // 2)
        with warnings.catch_warnings():
            # `max_restarts` has no parameter of its own yet. A restarted actor would wait for a core, which is forever
            # if the actors of the other stage hold all remaining cores and wait for it.
            warnings.filterwarnings("ignore", message="`ray_remote_args` is deprecated")
            decoded = clips.map_batches(
                _Decoder,
                batch_size=BATCH,
                batch_format="pyarrow",
                fn_constructor_args=(self.metadata, self._limits, self._timeout, self._estimators),
                compute=ray.data.ActorPoolStrategy(min_size=1, max_size=min(self._decoders or cores - 1, len(items))),
                num_cpus=1,
                max_restarts=0,
            )
            inferred = decoded.map_batches(
                _Inference,
                batch_size=BATCH,
                batch_format="pyarrow",
                fn_constructor_args=(self._model, self.metadata, self._options, bool(self._gpus)),
                compute=ray.data.ActorPoolStrategy(min_size=1, max_size=models),
                num_cpus=1,
                num_gpus=self._gpus or None,
                max_restarts=0,
            )
        for batch in inferred.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1):
            yield from _unpacked(batch)


async def _in_thread(blocking: Iterator[Any]) -> AsyncGenerator[Any]:
    """Run a blocking iterator in a thread, a few values ahead of the reader."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Queue[tuple[str, Any]] = asyncio.Queue(2 * BATCH)
    stopped = threading.Event()

    def put(kind: str, value: Any) -> None:
        asyncio.run_coroutine_threadsafe(ready.put((kind, value)), loop).result()

    def read() -> None:
        try:
            for value in blocking:
                if stopped.is_set():
                    return
                put("value", value)
        # Whatever the error, the reader raises it again.
        except Exception as error:
            put("error", error)
        else:
            put("end", None)

    thread = threading.Thread(target=read, name="ray-rows", daemon=True)
    thread.start()
    try:
        while True:
            kind, value = await ready.get()
            if kind == "end":
                return
            if kind == "error":
                raise value
            yield value
    finally:
        stopped.set()
        # The thread may be blocked on a full queue.
        with suppress(asyncio.QueueEmpty):
            while True:
                ready.get_nowait()


def _packed(items: Iterable[Any]) -> pa.Table:
    # Frames go through Arrow as bytes, in blocks of a few clips, far below the limit of its offsets.
    return pa.table({"item": pa.array([pickle.dumps(item, protocol=5) for item in items], pa.large_binary())})


def _unpacked(batch: pa.Table) -> Iterator[Any]:
    # Unpickling is safe, because our own actors wrote it.
    return (pickle.loads(item.as_buffer()) for item in batch.column("item"))


class _Decoder:
    """An actor with its own decode process: a crash costs one clip, not the actor."""

    def __init__(self, metadata: ModelMetadata, limits: ClipLimits, timeout: float, estimators: Estimators) -> None:
        self._metadata = metadata
        self._loop = asyncio.new_event_loop()
        self._pool = DecoderPool(
            metadata, workers=1, slots=1, limits=limits, timeout=timeout, estimators=estimators, remote=True
        )

    def __call__(self, batch: pa.Table) -> pa.Table:
        return _packed([self._loop.run_until_complete(self._one(work)) for work in _unpacked(batch)])

    async def _one(self, work: Work) -> _Item:
        try:
            async with self._pool.decoded(work.clip) as clip:
                return work, clip
        except DecodeError as error:
            return work, failed_row(work.clip, error.code, str(error), self._metadata)


class _Inference:
    """An actor that runs the model."""

    def __init__(self, model: Any, metadata: ModelMetadata, options: RowOptions, gpu: bool) -> None:
        self._metadata = metadata
        self._options = options
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "model.onnx")
            file.write_bytes(ray.get(model))
            self._model = OnnxModel(file, device="cuda" if gpu else "cpu", threads=1)

    def __call__(self, batch: pa.Table) -> pa.Table:
        items: list[_Item] = list(_unpacked(batch))
        clips = [(work, found) for work, found in items if isinstance(found, ModelClip)]
        rows = [(work, found) for work, found in items if isinstance(found, ClipRow)]
        try:
            rows += self._found(clips)
        # ONNX Runtime has one exception class per status code, all direct subclasses of Exception.
        except Exception:
            rows += [self._alone(work, clip) for work, clip in clips]
        return _packed(rows)

    def _alone(self, work: Work, clip: ModelClip) -> tuple[Work, ClipRow]:
        """Infer one clip of a failed batch on its own, so that only the clip at fault fails."""
        try:
            [found] = self._found([(work, clip)])
        except Exception as error:
            return work, failed_row(
                work.clip, "inference_failed", f"the model failed on this clip: {error}", self._metadata
            )
        return found

    def _found(self, clips: Sequence[tuple[Work, ModelClip]]) -> list[tuple[Work, ClipRow]]:
        if not clips:
            return []
        outputs = self._model.run(batch_of([clip.inputs for _, clip in clips]))
        version = self._metadata.version
        return [
            (
                work,
                found_row(work.clip, clip, outputs.row(i), version, self._metadata, self._options),
            )
            for i, (work, clip) in enumerate(clips)
        ]
