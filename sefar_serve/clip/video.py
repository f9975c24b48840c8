"""A video whose frames can be asked for by number, exactly and without decoding more than is needed.

Frame i is the i-th that a player would show: B-frames, edit lists, variable frame rate and missing frame
counts do not matter. Packets are read into memory once; then only the groups of pictures that
hold a wanted frame are decoded, without the frames inside them that no other needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from sefar_serve.clip.container import (
    LIBAV_ERRORS,
    ClipLimits,
    VideoSource,
    choose_stream,
    index_packets,
    open_container,
    source_name,
)
from sefar_serve.clip.errors import ClipLimitError, EmptyVideoError, UndecodableVideoError

av.logging.set_level(av.logging.PANIC)  # libav would print its complaints; ours are exceptions and warnings


@dataclass(frozen=True)
class Frames:
    """Frames as asked for.

    Attributes:
        pixels: uint8 (N, H, W, 3) RGB, upright.
        indices: int64 (N,), the frames that are shown; another than asked for where that one is broken.
        times: float64 (N,), seconds after the video's first frame.
        corrupt: numbers of those shown that the decoder flagged as damaged.
        warnings: what else is to say.
    """

    pixels: NDArray[np.uint8]
    indices: NDArray[np.int64]
    times: NDArray[np.float64]
    corrupt: tuple[int, ...] = ()
    warnings: tuple[str, ...] = ()


class Video:
    """An open video. A context manager; not for several threads at a time.

    Args:
        source: path, bytes, or seekable binary file object; a file object is not closed.
        name: for messages; the path by default.
        limits: checked before anything is decoded.
        threads: decoder threads; 1 is best when several videos are decoded side by side.

    Attributes:
        name: for messages.
        codec: e.g. ``h264``.
        stream_index: number of the stream in its container.
        frame_count: number of frames.
        times: float64 (frame_count,), seconds after the first frame.
        duration: seconds, the last frame's own time included.
        average_rate: frames a second.
        warnings: what is to say about the file.

    Raises:
        ClipError: it cannot be shown; see `sefar_serve.clip.errors`.
        OSError: the path cannot be read.
    """

    def __init__(
        self,
        source: VideoSource,
        *,
        name: str | None = None,
        limits: ClipLimits | None = None,
        threads: int = 1,
    ) -> None:
        limits = limits if limits is not None else ClipLimits()
        self.name = name or source_name(source)
        self._limits = limits
        with ExitStack() as opened:
            container = opened.enter_context(open_container(source, self.name, limits))
            stream, warnings = choose_stream(container, self.name)
            self._context = stream.codec_context
            self._check_size(self._context.width, self._context.height)
            self._context.thread_count = threads
            self._context.thread_type = "AUTO" if threads > 1 else "SLICE"
            self._index = index_packets(container, stream, self.name, limits)
            self.frame_count = len(self._index.pts)
            if self.frame_count == 0:
                raise EmptyVideoError(f"{self.name} has a video stream, but no frames in it; it may be cut off")
            if self._index.damaged or stream.frames > len(self._index.packets):
                declared = f" of {stream.frames}" if stream.frames else ""
                warnings += (f"the file is damaged or cut off: {self.frame_count}{declared} frames are there",)
            rate = stream.average_rate or stream.guessed_rate
            self.codec = self._context.name
            self.stream_index = stream.index
            self.warnings = warnings
            self.times, self.duration, self.average_rate = self._timing(float(stream.time_base or 0), float(rate or 0))
            if self.duration > limits.max_duration:
                raise ClipLimitError(
                    f"{self.name} is longer than the allowed {limits.max_duration:g} s; cut it shorter"
                )
            self._aspect = float(stream.sample_aspect_ratio or 1)
            self._reformatter = VideoReformatter()
            self._rotation: int | None = None
            self._opened = opened.pop_all()

    def __enter__(self) -> Video:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._opened.close()

    @property
    def width(self) -> int:
        """Upright display width in square pixels."""
        return self._upright()[0]

    @property
    def height(self) -> int:
        """Upright display height in square pixels."""
        return self._upright()[1]

    def read(
        self,
        indices: Sequence[int] | NDArray[np.int64],
        short_side: int | None = None,
        *,
        square: int | None = None,
        instead: Sequence[tuple[int, int]] | None = None,
    ) -> Frames:
        """Decode frames by number.

        Args:
            indices: N frame numbers in [0, frame_count), in any order, repeats allowed.
            short_side: scale so that the shorter side has this many pixels; None for the display size.
            square: cut out the central square of this many pixels.
            instead: for each frame a range [first, past-last) from which the nearest one may stand in if
                it does not decode; without it a broken frame is an error.

        Raises:
            ValueError: a number outside the video.
            UndecodableVideoError: a frame and all that may stand in for it do not decode.
        """
        wanted = np.asarray(indices, np.int64)
        if wanted.size == 0 or wanted.min() < 0 or wanted.max() >= self.frame_count:
            raise ValueError(f"frame numbers {wanted.tolist()} are not all in [0, {self.frame_count})")
        found: dict[int, _Picture] = {}

        def keep(number: int, frame: av.VideoFrame) -> None:
            found[number] = self._picture(number, frame, short_side, square)

        unique = np.unique(wanted)
        for number, frame in self._decode_wanted(unique):
            keep(number, frame)
        warnings: tuple[str, ...] = ()
        shown = wanted
        missing = [int(number) for number in unique if number not in found]
        if missing:
            ranges = {int(n): r for n, r in zip(wanted, instead, strict=True)} if instead is not None else {}
            substitutes = self._substitutes({n: ranges.get(n, (n, n + 1)) for n in missing}, found, keep)
            shown = np.array([substitutes.get(int(n), int(n)) for n in wanted], np.int64)
            swapped = ", ".join(f"{a} by {b}" for a, b in sorted(substitutes.items()) if a != b)
            if swapped:
                warnings = (f"frames that do not decode were replaced by their nearest neighbours: {swapped}",)
        return Frames(
            pixels=np.stack([found[int(number)].pixels for number in shown]),
            indices=shown,
            times=self.times[shown],
            corrupt=tuple(sorted({int(number) for number in shown if found[int(number)].corrupt})),
            warnings=warnings,
        )

    def _timing(self, time_base: float, rate: float) -> tuple[NDArray[np.float64], float, float]:
        count = self.frame_count
        if self._index.timed:
            times = (self._index.pts - self._index.pts[0]) * time_base
            step = float(np.median(np.diff(times))) if count > 1 else (1 / rate if rate else 0.0)
        else:
            step = 1 / rate if rate else 0.04
            times = np.arange(count) * step
        duration = float(times[-1]) + step
        return times.astype(np.float64), duration, count / duration if duration else rate

    def _decode_wanted(self, numbers: NDArray[np.int64]) -> Iterator[tuple[int, av.VideoFrame]]:
        """The wanted frames, those that decode; ascending numbers in."""
        if not self._index.timed:
            yield from self._decode_all(stop_after=int(numbers[-1]), wanted=set(numbers.tolist()))
            return
        index = self._index
        number_of = {int(index.pts[n]): int(n) for n in numbers}
        groups: dict[int, int] = {}
        for key, position in zip(index.key[numbers], index.position[numbers], strict=True):
            groups[int(key)] = max(groups.get(int(key), -1), int(position))
        for key, last in sorted(groups.items()):
            for frame in self._decode_group(key, last, number_of):
                number = number_of.get(frame.pts) if frame.pts is not None else None
                if number is not None:
                    yield number, frame

    def _decode_group(self, key: int, last: int, wanted: dict[int, int]) -> Iterator[av.VideoFrame]:
        """Feed packets from a key packet to the last wanted one, then drain the decoder."""
        context = self._context
        for packet in self._index.packets[key : last + 1]:
            # Frames that nobody wants and no other frame refers to are not decoded at all.
            context.skip_frame = "DEFAULT" if packet.pts in wanted else "NONREF"
            yield from self._feed(packet)
        yield from self._feed(None)
        context.flush_buffers()

    def _decode_all(
        self, stop_after: int | None = None, wanted: set[int] | None = None
    ) -> Iterator[tuple[int, av.VideoFrame]]:
        """Every frame from the beginning, numbered by time or, where there is none, by counting."""
        context = self._context
        context.skip_frame = "DEFAULT"
        number_of = {int(pts): number for number, pts in enumerate(self._index.pts)}
        counted = 0
        done = False
        for packet in [*self._index.packets, None]:
            for frame in self._feed(packet):
                number = number_of.get(frame.pts, -1) if self._index.timed else counted
                counted += 1
                if 0 <= number < self.frame_count and (wanted is None or number in wanted):
                    yield number, frame
                done = not self._index.timed and stop_after is not None and counted > stop_after
            if done:
                break
        context.flush_buffers()

    def _feed(self, packet: av.Packet | None) -> list[av.VideoFrame]:
        try:
            return list(self._context.decode(packet))
        except LIBAV_ERRORS:
            return []  # its frame will be missed, and replaced or reported by `read`

    def _substitutes(
        self,
        ranges: dict[int, tuple[int, int]],
        found: dict[int, _Picture],
        keep: Callable[[int, av.VideoFrame], None],
    ) -> dict[int, int]:
        """Decode everything, tolerating errors, and find the nearest stand-in for each missing frame."""
        nearest: dict[int, int] = {}
        decoded = 0
        for number, frame in self._decode_all():
            decoded += 1
            for missing, (first, past) in ranges.items():
                closer = missing not in nearest or abs(number - missing) < abs(nearest[missing] - missing)
                if first <= number < past and closer:
                    nearest[missing] = number
                    if number not in found:
                        keep(number, frame)
        lost = sorted(set(ranges) - set(nearest))
        if lost:
            raise UndecodableVideoError(
                f"{self.name} cannot be decoded: {decoded} of {self.frame_count} frames decode, and none at or "
                f"near {', '.join(map(str, lost[:8]))}; the file is damaged or cut off",
                frames_decoded=decoded,
            )
        return nearest

    def _upright(self) -> tuple[int, int]:
        width, height = self._display(self._context.width, self._context.height)
        if self._rotation is None:
            # Rotation is known only once a frame is decoded.
            for _, frame in self._decode_wanted(np.array([0])):
                self._rotation = frame.rotation
        return (height, width) if (self._rotation or 0) % 180 else (width, height)

    def _display(self, width: int, height: int) -> tuple[int, int]:
        """Display size in square pixels of a frame as it is stored."""
        return max(1, round(width * self._aspect)), height

    def _check_size(self, width: int, height: int) -> None:
        if width * height > self._limits.max_pixels:
            raise ClipLimitError(
                f"{self.name} has frames of {width}x{height}, more than the allowed {self._limits.max_pixels} pixels"
            )

    def _picture(self, number: int, frame: av.VideoFrame, short_side: int | None, square: int | None) -> _Picture:
        self._check_size(frame.width, frame.height)
        width, height = self._display(frame.width, frame.height)
        if short_side is not None:
            scale = short_side / min(width, height)
            width, height = max(1, round(width * scale)), max(1, round(height * scale))
        self._rotation = frame.rotation
        scaled = self._reformatter.reformat(frame, width, height, "rgb24", threads=1)
        pixels = np.rot90(scaled.to_ndarray(), round(frame.rotation / 90))
        if square is not None:
            pixels = central_square(pixels, square)
        return _Picture(np.ascontiguousarray(pixels), bool(frame.is_corrupt))


@dataclass(frozen=True)
class _Picture:
    pixels: NDArray[np.uint8]
    corrupt: bool


def central_square(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Cut the central square out of pictures.

    Args:
        pixels: uint8 (…, H, W, 3).
        size: side in pixels, at most H and W.

    Returns:
        uint8 (…, size, size, 3), a view.

    Raises:
        ValueError: the pictures are smaller.
    """
    height, width = pixels.shape[-3:-1]
    if min(height, width) < size:
        raise ValueError(f"no square of {size} pixels in pictures of {width}x{height}")
    top, left = (height - size) // 2, (width - size) // 2
    return pixels[..., top : top + size, left : left + size, :]
