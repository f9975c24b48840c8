"""What is to be decoded, and how, wherever it is done."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

from sefar_serve.clip import ClipLimits, VideoSource
from sefar_serve.inputs import ModelClip, load_input_windows, load_inputs
from sefar_serve.metadata import ModelMetadata
from sefar_serve.pose import Estimators


@dataclass(frozen=True)
class DecodeTask:
    """Which clips to take from a video.

    Attributes:
        metadata: of the model that the clips are for.
        name: name of the video in messages.
        start: seconds; None for the first frame.
        end: seconds; None for the end of the video.
        windows: lengths of sliding windows in seconds; none takes the span as one clip.
        stride: seconds between the starts of windows of one length; None for half of that length.
        max_windows: maximum number of windows.
        limits: limits on the video.
    """

    metadata: ModelMetadata
    name: str
    start: float | None = None
    end: float | None = None
    windows: tuple[float, ...] = ()
    stride: float | None = None
    max_windows: int = 512
    limits: ClipLimits = field(default_factory=ClipLimits)


@dataclass(frozen=True)
class Decoded:
    """The clips of a video.

    Attributes:
        times: (start, end) of each clip, seconds.
        clips: the clips.
        seconds: time spent opening, decoding and finding joints.
    """

    times: list[tuple[float, float]]
    clips: list[ModelClip]
    seconds: float


class Decoders(Protocol):
    """Decodes several videos at a time. The methods may be called from any thread."""

    def submit(self, opened: Callable[[], VideoSource], task: DecodeTask) -> Future[Decoded]:
        """Decode a video when its turn comes.

        Args:
            opened: returns the video. Called in a thread, so it may read files, decode base64, and raise.
            task: which clips to take.

        Returns:
            Its future fails with what `opened` raised, a `ClipError`, `PoseError` or `DecodersUnavailableError`.
            Cancelling it drops a video that waits, and stops one that is being decoded if that is possible.
        """
        ...

    def start(self, *models: ModelMetadata) -> None:
        """Get ready to decode for these models. Blocks.

        Raises:
            PoseError: a model sees joints that cannot be found here.
            DecodersUnavailableError: no process can be started.
        """
        ...

    def check(self, model: ModelMetadata) -> Future[object]:
        """Check that videos are decoded: by decoding one, unless another was just decoded.

        Returns:
            Its future fails as that of `submit` does.
        """
        ...

    def close(self) -> None:
        """Stop. Blocks until all threads and processes have ended."""
        ...


def decode(source: VideoSource, task: DecodeTask, estimators: Estimators) -> Decoded:
    """Take the clips of a video, in this thread.

    Raises:
        FileNotFoundError: the path does not exist.
        ClipError: a subclass of it, if the video or the span cannot be used.
        PoseError: a subclass of it, if the joints that the model takes cannot be found here.
    """
    started = time.perf_counter()
    if task.windows:
        times, clips = load_input_windows(
            source,
            task.metadata,
            estimators,
            windows=task.windows,
            stride=task.stride,
            max_windows=task.max_windows,
            start=task.start,
            end=task.end,
            name=task.name,
            limits=task.limits,
        )
    else:
        clip = load_inputs(
            source,
            task.metadata,
            estimators,
            start=task.start,
            end=task.end,
            name=task.name,
            limits=task.limits,
        )
        times = [(task.start or 0.0, task.end if task.end is not None else clip.duration)]
        clips = [clip]
    return Decoded(times, clips, time.perf_counter() - started)
