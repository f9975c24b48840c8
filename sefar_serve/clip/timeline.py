"""The frames that a video presents, in order, and the packets that hold them; nothing is decoded here.

A container stores packets in decoding order, which is not the order of presentation, and what it
declares (frame count, rate) is often missing or wrong. The packets themselves are reliable.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream
from numpy.typing import NDArray

from sefar_serve.clip.errors import DAMAGE, ClipLimitError, EmptyVideoError
from sefar_serve.clip.limits import ClipLimits


@dataclass
class Timeline:
    """The frames of a stream, in order of presentation.

    Attributes:
        packets: all packets, in decoding order, including those that present no frame.
        keys: positions in `packets` where decoding can start, ascending.
        ordered: frame i is the one whose packet has `pts[i]`. If False, timestamps are missing,
            repeated or in the wrong order, and only counting the decoder's output tells which frame is which.
        counted: `frame_count` is certain. If False, it is the number of packets, and the frames have to be
            counted by decoding.
        pts: int64 (N,), ascending; timestamps by frame if `ordered`, else empty.
        positions: int64 (N,), position in `packets` by frame if `ordered`, else empty.
        times: float64 (frame_count,), seconds since the first presented frame.
        duration: seconds until the last frame's end.
        warnings: to be shown to the user with the answer.
    """

    packets: list[Packet[VideoStream]]
    keys: list[int]
    ordered: bool
    counted: bool
    pts: NDArray[np.int64]
    positions: NDArray[np.int64]
    times: NDArray[np.float64]
    duration: float
    warnings: tuple[str, ...] = ()

    @property
    def frame_count(self) -> int:
        """Frames presented, including those missing because the file was truncated."""
        return len(self.times)

    def start_of(self, number: int) -> int:
        """Position of the packet from which to decode frame `number`.

        It is the last key packet that does not come after the frame, neither in decoding order nor in
        presentation order: frames that are decoded after a key frame but shown before it (leading
        pictures of an open GOP) need the previous GOP.
        """
        pts = int(self.pts[number])
        for k in range(bisect_right(self.keys, int(self.positions[number])) - 1, -1, -1):
            key_pts = self.packets[self.keys[k]].pts
            if key_pts is None or key_pts <= pts:
                return self.keys[k]
        return 0

    def uncertain_head(self) -> int:
        """How many frames at the start a decoder may not output: those shown before the first key frame.

        A recording that was cut in the middle of a GOP starts with such frames.
        """
        if not self.ordered or not self.keys:
            return 0
        key_pts = self.packets[self.keys[0]].pts
        return int(np.searchsorted(self.pts, key_pts)) if key_pts is not None else 0

    def without(self, numbers: set[int]) -> Timeline:
        """This timeline without frames that turned out not to be presented."""
        keep = np.array([i for i in range(self.frame_count) if i not in numbers], dtype=np.int64)
        within = keep[keep < len(self.pts)]
        times = self.times[keep]
        offset = float(times[0]) if len(times) else 0.0
        return replace(
            self,
            pts=self.pts[within],
            positions=self.positions[within],
            times=times - offset,
            duration=self.duration - offset,
        )

    def recounted(self, count: int) -> Timeline:
        """This timeline with the number of frames counted by decoding."""
        step = self.duration / max(self.frame_count, 1)
        times = self.times[:count] if count <= self.frame_count else np.arange(count, dtype=np.float64) * step
        return replace(self, counted=True, times=times, duration=float(times[-1]) + step if count else 0.0)


def read_timeline(container: InputContainer, stream: VideoStream, name: str, limits: ClipLimits) -> Timeline:
    """Read all packets of a stream into memory and put its frames in order.

    Args:
        container: open, and positioned at its start.
        stream: the stream to read.
        name: name of the source in messages.
        limits: `max_frames` and `max_duration` are checked here.

    Raises:
        EmptyVideoError: the stream has no packets that present a frame.
        ClipLimitError: it has too many frames or is too long.
    """
    packets, stored, damaged = _demux(container, stream, name, limits)
    hidden = _hidden_in_vp8 if stream.codec_context.codec.canonical_name == "vp8" else _never
    shown = [i for i, p in enumerate(packets) if not p.is_discard and not hidden(p)]
    if not shown:
        raise EmptyVideoError(f"{name} has a video stream but no frames in it; use a video that has frames")
    keys = [i for i, p in enumerate(packets) if p.is_keyframe]
    format_name = container.format.name
    clock = np.array([p for i in shown if (p := packets[i].pts) is not None], dtype=np.int64)
    whole = len(clock) == len(shown) and _monotonic(packets[i] for i in shown)
    times, duration = _seconds(clock if whole else None, packets[shown[-1]], len(shown), stream)
    # AVI has no presentation times: the ones that FFmpeg makes up are in the wrong order with B-frames.
    ordered = whole and format_name != "avi" and len(np.unique(clock)) == len(clock)
    if not ordered and len(keys) == len(packets):
        # Codecs in which every packet is a key frame do not reorder, and a decoder copies a packet's
        # timestamp to its frame: the position in storage can serve as the timestamp.
        for i, packet in enumerate(packets):
            packet.pts = i
        clock, ordered = np.array(shown, dtype=np.int64), True
    order = np.argsort(clock, kind="stable") if ordered else np.empty(0, dtype=np.int64)
    pts, positions = clock[order], np.array(shown, dtype=np.int64)[order]
    warnings = []
    missing = _missing(format_name, stream, stored, damaged)
    declared = ((container.duration or 0) - (container.start_time or 0)) / av.time_base
    if missing:
        step = duration / len(times)
        times = np.concatenate([times, duration + step * np.arange(missing)])
        duration += step * missing
        warnings.append(f"the file looks truncated: it has {len(times) - missing} of {len(times)} declared frames")
    elif damaged:
        warnings.append(f"the file looks truncated or damaged after frame {len(times) - 1}")
    elif "matroska" in format_name and not container.streams.audio and declared > 1.1 * duration:
        warnings.append(
            f"the file looks truncated: it declares {declared:.3f} s, but its frames end at {duration:.3f} s"
        )
    if duration > limits.max_duration:
        raise ClipLimitError(
            f"{name} lasts {duration:.1f} s, more than the limit of {limits.max_duration:.1f} s; use a part of it"
        )
    counted = ordered or format_name == "avi"
    return Timeline(packets, keys, ordered, counted, pts, positions, times, duration, tuple(warnings))


def _demux(
    container: InputContainer, stream: VideoStream, name: str, limits: ClipLimits
) -> tuple[list[Packet[VideoStream]], int, bool]:
    """All packets that are not empty, the number of packets stored, and whether reading stopped at damage."""
    packets: list[Packet[VideoStream]] = []
    stored = 0
    damaged = False
    try:
        for packet in container.demux(stream):
            stored += packet.dts is not None or packet.size > 0
            if packet.size:  # an empty packet would tell the decoder that the stream has ended
                packets.append(packet)
            if len(packets) > limits.max_frames:
                raise ClipLimitError(f"{name} has more frames than the limit of {limits.max_frames}; use a part of it")
    except DAMAGE as error:
        if not packets:
            raise EmptyVideoError(
                f"{name} is damaged before its first frame ({error}); use an undamaged file"
            ) from error
        damaged = True
    return packets, stored, damaged or bool(packets and packets[-1].is_corrupt)


def _monotonic(packets: Iterable[Packet[VideoStream]]) -> bool:
    """Whether decoding timestamps never jump back; they do in recordings joined end to end."""
    decoding = [p.dts for p in packets if p.dts is not None]
    return all(a <= b for a, b in pairwise(decoding))


def _never(packet: Packet[VideoStream]) -> bool:
    return False


def _hidden_in_vp8(packet: Packet[VideoStream]) -> bool:
    """VP8 stores alternate reference frames, which are never shown, as packets of their own."""
    return not (memoryview(packet)[0] >> 4) & 1


def _seconds(
    clock: NDArray[np.int64] | None, last: Packet[VideoStream], count: int, stream: VideoStream
) -> tuple[NDArray[np.float64], float]:
    """Seconds from the first frame to each frame, and to the end of the last; evenly spaced without a clock."""
    rate = stream.average_rate or stream.guessed_rate
    even = 1 / float(rate) if rate else 0.04
    base = stream.time_base
    if clock is None or base is None:
        return np.arange(count, dtype=np.float64) * even, count * even
    ticks = np.sort(clock) - clock.min()
    # Multiply integers, then divide once: 5 frames of 1/25 s are 0.2, not 0.20000000000000001.
    times = (ticks * base.numerator / base.denominator).astype(np.float64)
    step = float(last.duration * base) if last.duration else 0.0
    if not 0 < step <= 10:
        step = float(np.median(np.diff(times))) if count > 1 else even
    return times, float(times[-1]) + (step or even)


def _missing(format_name: str, stream: VideoStream, stored: int, damaged: bool) -> int:
    """Frames that the container's index declares but the file no longer holds."""
    if "mp4" in format_name:
        return max(len(stream.index_entries) - stored, 0)
    return max(stream.frames - stored, 0) if damaged and format_name == "avi" else 0
