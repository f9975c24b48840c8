"""From videos to predictions: decode and find joints in threads or processes, infer in the engine.

The gateway and the command line both use `Recognizer`, so they give the same answers. It returns
clips and predictions; `sefar_serve.schemas.render` turns them into the JSON that users see.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from types import TracebackType

from sefar_serve.clip import ClipError, ClipLimits, VideoSource
from sefar_serve.decoding import Decoded, Decoders, DecodersUnavailableError, DecodeTask, ThreadDecoders
from sefar_serve.engine import Engine, EngineOverloadedError, Model, Prediction
from sefar_serve.inputs import ModelClip
from sefar_serve.metadata import ModelMetadata
from sefar_serve.pose import Estimators
from sefar_serve.reliability import UNFAMILIAR_BELOW, is_unfamiliar
from sefar_serve.room import Room


@dataclass(frozen=True)
class ClipInput:
    """One video to recognise.

    Attributes:
        name: shown in answers and error messages.
        open: returns the video. Called in a thread, so it may read files, decode base64, and
            raise `sefar_serve.clip.ClipError`.
        close: releases what `open` returned; called when the video is no longer read.
    """

    name: str
    open: Callable[[], VideoSource]
    close: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Span:
    """Which part of a video to recognise, as one clip or as sliding windows.

    Attributes:
        start: seconds; None for the beginning.
        end: seconds; None for the end.
        windows: lengths of sliding windows in seconds; none takes the span as one clip.
        stride: seconds between the starts of windows of one length; None for half of that length.
    """

    start: float | None = None
    end: float | None = None
    windows: tuple[float, ...] = ()
    stride: float | None = None


@dataclass(frozen=True)
class Window:
    """One clip of a video, without the model's inputs, and its prediction; times in seconds.

    Attributes:
        unfamiliar: whether the clip is unlike what the model knows.
    """

    start: float
    end: float
    clip: ModelClip
    prediction: Prediction
    unfamiliar: bool = False

    @property
    def familiarity(self) -> float | None:
        """The share of held-out clips that were less typical, in [0, 1]; None if the model does not measure it."""
        known = self.prediction.outputs.familiarity
        return None if known is None else float(known)


@dataclass(frozen=True)
class Recognised:
    """The results for one video: one window, or several if sliding windows were requested.

    Attributes:
        name: name of the input.
        windows: at least one, in order of time.
        decode_seconds: time spent opening and decoding, without the wait for a thread or process.
        pose_seconds: time spent finding joints; None if the model sees none.
        decoded_at: when it was decoded and its joints found, in Unix seconds.
        finished_at: when the model had answered for all windows, in Unix seconds.
    """

    name: str
    windows: tuple[Window, ...]
    decode_seconds: float
    pose_seconds: float | None = None
    decoded_at: float = 0.0
    finished_at: float = 0.0

    @property
    def queue_seconds(self) -> float:
        """Longest time that a window waited for the model."""
        return max(window.prediction.queue_seconds for window in self.windows)

    @property
    def inference_seconds(self) -> float:
        """Time in the model; the time of a batch is divided equally among its clips."""
        return sum(window.prediction.inference_seconds / window.prediction.batch_size for window in self.windows)


@dataclass(frozen=True)
class Bounds:
    """Limits on a recognizer.

    Attributes:
        decode_threads: threads that decode, if no other decoders are given.
        max_decoding: maximum number of videos being decoded or waiting; more are refused before any work.
        limits: limits on each video.
        max_windows: maximum number of sliding windows in one video.
        windows_at_once: windows of all videos that are at the model at the same time, so that they leave room in its
            queue for other clips; the others wait.
        max_decoded_bytes: memory of all decoded clips; more videos are decoded only when some of it is free.
        unfamiliar_below: familiarity below which a clip is marked as unfamiliar.
    """

    decode_threads: int = 1
    max_decoding: int = 128
    limits: ClipLimits = field(default_factory=ClipLimits)
    max_windows: int = 512
    windows_at_once: int = 128
    max_decoded_bytes: int = 1024**3
    unfamiliar_below: float = UNFAMILIAR_BELOW


WINDOWS_OF_ONE_VIDEO = 32
"""Windows of one video that are at the model, or wait for their turn there, at the same time."""


class Recognizer:
    """Decodes many videos at a time and runs the model on them, within fixed limits.

    Args:
        engine: started by `start` and closed by `close`.
        bounds: limits on threads, queue and each video; None for the defaults.
        estimators: find the joints for models that see them; None for the installed ones.
        decoders: started and closed with the recognizer; None for threads, which use `estimators`.
    """

    def __init__(
        self,
        engine: Engine,
        bounds: Bounds | None = None,
        estimators: Estimators | None = None,
        decoders: Decoders | None = None,
    ) -> None:
        self.engine = engine
        self._bounds = bounds if bounds is not None else Bounds()
        self._decoding = 0
        if decoders is None:
            decoders = ThreadDecoders(
                self._bounds.decode_threads, estimators if estimators is not None else Estimators()
            )
        self._decoders = decoders
        self._room = Room(self._bounds.max_decoded_bytes)
        self._windows = asyncio.Semaphore(self._bounds.windows_at_once)

    @property
    def decoded_bytes(self) -> int:
        """Memory that decoded clips hold, in bytes."""
        return self._room.held

    @property
    def decoding(self) -> int:
        """Number of videos being decoded or waiting."""
        return self._decoding

    async def start(self) -> None:
        """Start the engine and the decoders, and load the pose estimators of the models.

        Raises:
            EngineError: the engine can never become ready.
            PoseError: a model sees joints that cannot be found here.
            DecodersUnavailableError: decode processes cannot be started.
        """
        await self.engine.start()
        try:
            await asyncio.to_thread(self._decoders.start, *(model.metadata for model in self.engine.models))
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Wait for running work to finish, then stop the engine and the decoders. Processes do not finish videos."""
        await self.engine.close()
        await asyncio.to_thread(self._decoders.close)

    async def check(self) -> None:
        """Check that the default model answers, and that videos are decoded; recent successes count.

        Raises:
            EngineError: the model does not answer.
            DecodersUnavailableError: videos are not decoded.
        """
        await self.engine.check()
        try:
            await asyncio.wrap_future(self._decoders.check(self.engine.model(None).metadata))
        except ClipError as error:
            raise DecodersUnavailableError(f"a test video was not decoded: {error}") from error

    async def __aenter__(self) -> Recognizer:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def recognise(
        self, inputs: Sequence[ClipInput], model: Model, span: Span = Span()
    ) -> list[Recognised | Exception]:
        """Recognise several videos at once.

        Args:
            inputs: the videos.
            model: one of the engine's models.
            span: which part of each video.

        Returns:
            For each input, in order, its results or the exception that it failed with
            (`ClipError`, `EngineError`); one bad video does not fail the others.

        Raises:
            EngineOverloadedError: too many videos are being decoded; nothing was started.
        """
        if self._decoding + len(inputs) > self._bounds.max_decoding:
            for item in inputs:
                item.close()
            raise EngineOverloadedError(
                f"{self._decoding} videos are being decoded or waiting, and {len(inputs)} more would exceed the "
                f"limit of {self._bounds.max_decoding}; try again later"
            )
        decodes = [self._submit_decode(item, span, model.metadata) for item in inputs]
        found = await asyncio.gather(
            *(self._one(item, decode, model) for item, decode in zip(inputs, decodes, strict=True)),
            return_exceptions=True,
        )
        for result in found:
            if isinstance(result, BaseException) and not isinstance(result, Exception):
                raise result
        return [result for result in found if isinstance(result, (Recognised, Exception))]

    def _submit_decode(self, item: ClipInput, span: Span, meta: ModelMetadata) -> Future[Decoded]:
        loop = asyncio.get_running_loop()
        self._decoding += 1
        task = DecodeTask(
            meta,
            item.name,
            span.start,
            span.end,
            span.windows,
            span.stride,
            self._bounds.max_windows,
            self._bounds.limits,
        )

        def opened() -> VideoSource:
            self._room.wait()
            return item.open()

        try:
            future = self._decoders.submit(opened, task)
        except BaseException:
            self._decoding -= 1
            item.close()
            raise

        # The slot is freed when the decoder is done with the video, not when the caller stops
        # waiting: a timed-out request must not admit another video while its own is still decoding.
        def release(_: object) -> None:
            item.close()
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._release)

        future.add_done_callback(self._count)  # before anybody has the clips
        future.add_done_callback(release)
        return future

    def _count(self, future: Future[Decoded]) -> None:
        if future.cancelled() or future.exception() is not None:
            return
        for clip in future.result().clips:
            self._room.hold(clip, sum(values.nbytes for values in clip.inputs.values()))

    def _release(self) -> None:
        self._decoding -= 1

    async def _one(self, item: ClipInput, decode: Future[Decoded], model: Model) -> Recognised:
        # Cancelling the wrapper cancels a decode that has not started, and stops one in a process.
        decoded = await asyncio.wrap_future(decode)
        decoded_at = time.time()
        # Otherwise long videos could fill the engine's queue and have their own windows refused. Each has few at a
        # time, so that the videos take turns.
        slots = asyncio.Semaphore(WINDOWS_OF_ONE_VIDEO)
        shared = self._windows if len(decoded.clips) > 1 else nullcontext()

        async def infer(number: int) -> Prediction:
            async with slots, shared:
                prediction = await model.infer(decoded.clips[number].inputs)
            # Pictures are not needed any more, and a long video may have many windows.
            decoded.clips[number] = decoded.clips[number].without_inputs()
            return prediction

        tasks = [asyncio.create_task(infer(number)) for number in range(len(decoded.clips))]
        try:
            predictions = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        windows = tuple(
            self._window(start, end, clip, prediction)
            for (start, end), clip, prediction in zip(decoded.times, decoded.clips, predictions, strict=True)
        )
        posing = sum(clip.pose_seconds for clip in decoded.clips)
        sees_joints = model.metadata.sees_joints
        return Recognised(
            item.name,
            windows,
            decoded.seconds - posing,
            posing if sees_joints else None,
            decoded_at=decoded_at,
            finished_at=time.time(),
        )

    def _window(self, start: float, end: float, clip: ModelClip, prediction: Prediction) -> Window:
        window = Window(start, end, clip, prediction)
        unfamiliar = is_unfamiliar(window.familiarity, self._bounds.unfamiliar_below)
        return replace(window, unfamiliar=unfamiliar)
