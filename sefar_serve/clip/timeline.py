"""The frames a video presents, in order, and the packets that hold them; nothing is decoded here.

A container stores packets in the order a decoder must be fed, which is not the order of presentation,
and what it declares (frame count, rate) is often missing or wrong. The packets themselves do not lie.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream
from numpy.typing import NDArray

from sefar_serve.clip.errors import DAMAGE, ClipLimitError, EmptyVideoError
from sefar_serve.clip.limits import ClipLimits

MAX_REORDER = 64
"""Packets between where a frame is stored and where it is shown; codecs allow 16 frames of reordering."""


@dataclass
class Timeline:
    """What a stream presents.

    Attributes:
        packets: all of them, in feeding order, also those that present nothing.
        keys: positions in `packets` where decoding can start, ascending.
        ordered: frame i is the one whose packet has `pts[i]`. Where False, timestamps are missing,
            repeated or in the wrong order, and frames are known only by counting the decoder's output.
        counted: `frame_count` is certain; where False it is the number of packets and has to be
            counted by decoding.
        pts: int64 (N,), ascending; timestamps by frame if `ordered`, else empty.
        positions: int64 (N,), position in `packets` by frame if `ordered`, else empty.
        times: float64 (frame_count,), seconds since the first presented frame.
        duration: seconds until the last frame's end.
        warnings: for whoever gets the answer.
    """

    packets: list[Packet]
    keys: list[int]
    ordered: bool
    counted: bool
    pts: NDArray[np.int64]
    positions: NDArray[np.int64]
    times: NDArray[np.float64]
    duration: float
    warnings: tuple[str, ...] = ()
    _first_pts: int = field(init=False, default=0)

    @property
    def frame_count(self) -> int:
        """Frames presented, also those missing because the file was cut."""
        return len(self.times)

    def start_of(self, number: int) -> int:
        """Position of the packet from which frame `number` decodes.

        It is the last key packet fed no later and shown no later: pictures that are fed after a key
        frame but shown before it (leading pictures of an open group) need the group before.
        """
        pts = int(self.pts[number])
        for k in range(bisect_right(self.keys, int(self.positions[number])) - 1, -1, -1):
            key_pts = self.packets[self.keys[k]].pts
            if key_pts is None or key_pts <= pts:
                return self.keys[k]
        return 0

    def uncertain_head(self) -> int:
        """How many frames at the start a decoder may not present: those shown before the first key frame.

        They are left where a recording was cut without regard to groups of pictures.
        """
        if not self.ordered or not self.keys:
            return 0
        key_pts = self.packets[self.keys[0]].pts
        return int(np.searchsorted(self.pts, key_pts)) if key_pts is not None else 0

    def without(self, numbers: set[int]) -> Timeline:
        """This timeline less frames which turned out not to be presented."""
        keep = np.array([i for i in range(self.frame_count) if i not in numbers], dtype=np.int64)
        within = keep[keep < len(self.pts)]
        times = self.times[keep]
        offset = float(times[0]) if len(times) else 0.0
        return Timeline(
            self.packets,
            self.keys,
            self.ordered,
            self.counted,
            self.pts[within],
            self.positions[within],
            times - offset,
            self.duration - offset,
            self.warnings,
        )

    def recounted(self, count: int) -> Timeline:
        """This timeline with the number of frames that decoding gave."""
        step = self.duration / max(self.frame_count, 1)
        times = self.times[:count] if count <= self.frame_count else step * np.arange(count)
        duration = float(times[-1]) + step if count else 0.0
        return Timeline(self.packets, self.keys, False, True, self.pts, self.positions, times, duration, self.warnings)


def read_timeline(container: InputContainer, stream: VideoStream, name: str, limits: ClipLimits) -> Timeline:
    """Read all packets of a stream into memory and put its frames in order.

    Args:
        container: at its beginning.
        stream: the stream to read.
        name: what messages call the source.
        limits: `max_frames` and `max_duration` are checked here.

    Raises:
        EmptyVideoError: the stream has no packets that present a frame.
        ClipLimitError: too many frames or too long.
    """
    packets, stored, damaged = _demux(container, stream, name, limits)
    hidden = _hidden_in_vp8 if stream.codec_context.codec.canonical_name == "vp8" else _never
    shown = [i for i, p in enumerate(packets) if not p.is_discard and not hidden(p)]
    if not shown:
        raise EmptyVideoError(f"{name} has a video stream but no frames in it; send a video that has some")
    keys = [i for i, p in enumerate(packets) if p.is_keyframe]
    format_name = container.format.name
    rate = stream.average_rate or stream.guessed_rate or Fraction(25)
    # Codecs whose every packet is a key frame do not reorder: storage order is presentation order,
    # and the decoder hands a packet's timestamp on to its frame, whatever it is.
    own_clock = [packets[i].pts for i in shown]
    sound = None not in own_clock and format_name != "avi" and _in_order(own_clock)
    if not sound and len(keys) == len(packets):
        for i, packet in enumerate(packets):
            packet.pts = i
        ordered = True
    else:
        ordered = sound
    if ordered:
        ranked = sorted((packets[i].pts or 0, i) for i in shown)
        pts = np.array([p for p, _ in ranked], dtype=np.int64)
        positions = np.array([i for _, i in ranked], dtype=np.int64)
    else:
        pts = positions = np.empty(0, dtype=np.int64)
    times, duration = _clock(packets, shown, own_clock, stream, rate)
    warnings = []
    missing = _missing(format_name, stream, stored, damaged)
    if missing:
        step = duration / len(times)
        times = np.concatenate([times, duration + step * np.arange(missing)])
        duration += step * missing
        warnings.append(f"the file looks truncated: {len(times) - missing} of {len(times)} declared frames are in it")
    elif damaged:
        warnings.append(f"the file looks truncated or damaged after frame {len(times) - 1}")
    if duration > limits.max_duration:
        raise ClipLimitError(
            f"{name} lasts {duration:.1f} s, {limits.max_duration:.1f} s are allowed; send a part of it"
        )
    return Timeline(
        packets,
        keys,
        ordered,
        ordered or format_name == "avi",
        pts,
        positions,
        times,
        duration,
        tuple(warnings),
    )


def _demux(
    container: InputContainer, stream: VideoStream, name: str, limits: ClipLimits
) -> tuple[list[Packet], int, bool]:
    """All packets with something in them, how many were stored, and whether reading ended in damage."""
    packets: list[Packet] = []
    stored = 0
    damaged = False
    try:
        for packet in container.demux(stream):
            stored += packet.dts is not None or packet.size > 0
            if packet.size:  # an empty packet would tell the decoder that the stream has ended
                packets.append(packet)
            if len(packets) > limits.max_frames:
                raise ClipLimitError(f"{name} has more than the {limits.max_frames} frames allowed; send a part")
    except DAMAGE as error:
        if not packets:
            raise EmptyVideoError(f"{name} is damaged before its first frame ({error})") from error
        damaged = True
    return packets, stored, damaged or bool(packets and packets[-1].is_corrupt)


def _in_order(pts: list[int]) -> bool:
    """Whether timestamps are unique, and as near to feeding order as codecs reorder."""
    array = np.array(pts, dtype=np.int64)
    ranks = np.empty(len(array), dtype=np.int64)
    ranks[np.argsort(array, kind="stable")] = np.arange(len(array))
    unique = len(np.unique(array)) == len(array)
    return unique and int(np.abs(ranks - np.arange(len(array))).max()) <= MAX_REORDER


def _never(packet: Packet) -> bool:
    return False


def _hidden_in_vp8(packet: Packet) -> bool:
    """VP8 stores alternate reference frames, which are never shown, as packets of their own."""
    return not (memoryview(packet)[0] >> 4) & 1


def _clock(
    packets: list[Packet], shown: list[int], pts: list[int | None], stream: VideoStream, rate: Fraction
) -> tuple[NDArray[np.float64], float]:
    """Seconds of each frame since the first, and until the last one's end."""
    known = [p for p in pts if p is not None]
    base = stream.time_base
    if len(known) < len(pts) or base is None:
        return np.arange(len(shown)) / float(rate), len(shown) / float(rate)
    ticks = np.sort(np.array(known, dtype=np.int64))
    # Whole ticks times an integer, divided once: 5 frames of 1/25 s are 0.2, not 0.20000000000000001.
    times = (ticks - ticks[0]) * base.numerator / base.denominator
    last = next(packets[i] for i in reversed(shown) if packets[i].pts is not None)
    step = float(last.duration * base) if last.duration else 0.0
    if not 0 < step <= 10:
        step = float(np.median(np.diff(times))) if len(times) > 1 else 1 / float(rate)
    return times, float(times[-1]) + (step or 1 / float(rate))


def _missing(format_name: str, stream: VideoStream, stored: int, damaged: bool) -> int:
    """Frames the container's index declares but the file no longer holds."""
    if "mp4" in format_name:
        return max(len(stream.index_entries) - stored, 0)
    return max(stream.frames - stored, 0) if damaged and format_name == "avi" else 0
