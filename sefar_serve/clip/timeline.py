"""The frames that a video presents, in order, and the packets that hold them; nothing is decoded here.

A container stores packets in decoding order, which is not the order of presentation, and what it
declares (frame count, rate, key frames, sometimes even times) is often missing or wrong.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

from sefar_serve.clip import codecs
from sefar_serve.clip.errors import ClipLimitError, EmptyVideoError
from sefar_serve.clip.limits import ClipLimits
from sefar_serve.clip.packets import UNKNOWN, PacketTable

WRAP = 1 << 33
"""Timestamps of MPEG streams begin again at 0 after so many ticks."""

JUMP = 10.0
"""Seconds by which times in an MPEG stream jump forwards at most, unless recordings were joined; FFmpeg's own limit."""

JOINABLE = frozenset({"mpegts", "mpeg"})
"""Containers that can be joined by their bytes; each part keeps its own times."""


@dataclass(frozen=True)
class Timeline:
    """The N frames of a stream, in order of presentation. Attributes by packet are in the order of the file.

    Attributes:
        stamps: int64 (P,), for each packet the time of presentation that it is given, which its frame then has.
        ticks: int64 (P,), for each packet the real one, in the stream's time base.
        positions: int64 (N,), for each frame its packet; None if only counting the decoder's output tells which frame
            is which.
        ranks: int64 (P,), ascending in order of presentation; -1 for packets that present no frame.
        starts: packets where decoding can start, ascending.
        head: number of frames at the start that a decoder may not output, see `uncertain_head`.
        counted: `frame_count` is certain. If False, it is the number of packets, and the frames have to be
            counted by decoding.
        times: float64 (N,), seconds since the first presented frame.
        duration: seconds until the last frame's end.
        warnings: to be shown to the user with the answer.
    """

    stamps: NDArray[np.int64]
    ticks: NDArray[np.int64]
    positions: NDArray[np.int64] | None
    ranks: NDArray[np.int64]
    starts: tuple[int, ...]
    counted: bool
    times: NDArray[np.float64]
    duration: float
    warnings: tuple[str, ...] = ()

    @property
    def frame_count(self) -> int:
        """Frames presented, including those missing because the file was truncated."""
        return len(self.times)

    def numbers(self) -> dict[int | None, int]:
        """The number of each frame by its stamp; empty if frames have to be counted."""
        if self.positions is None:
            return {}
        return {stamp: number for number, stamp in enumerate(self.stamps[self.positions].tolist())}

    def start_of(self, number: int) -> int:
        """Position of the packet from which to decode frame `number`.

        It is the last start that does not come after the frame, neither in decoding order nor in
        presentation order: frames that are decoded after a key frame but shown before it (leading
        pictures of an open GOP) need the previous GOP.
        """
        assert self.positions is not None
        position = int(self.positions[number])
        rank = self.ranks[position]
        for k in range(bisect_right(self.starts, position) - 1, -1, -1):
            if self.ranks[self.starts[k]] <= rank:
                return self.starts[k]
        return 0

    def uncertain_head(self) -> int:
        """How many frames at the start a decoder may not output: those shown before the first key frame.

        A recording that was cut in the middle of a GOP starts with such frames.
        """
        if self.positions is None or not self.starts:
            return 0
        return int((self.ranks[self.positions] < self.ranks[self.starts[0]]).sum())

    def without(self, numbers: set[int]) -> Timeline:
        """This timeline without frames that turned out not to be presented."""
        assert self.positions is not None
        keep = np.array([i for i in range(self.frame_count) if i not in numbers], dtype=np.int64)
        times = self.times[keep]
        offset = float(times[0]) if len(times) else 0.0
        positions = self.positions[keep[keep < len(self.positions)]]
        return replace(self, positions=positions, times=times - offset, duration=self.duration - offset)

    def in_turn(self) -> Timeline:
        """This timeline where decoding starts at the first packet only."""
        return replace(self, starts=())

    def learned(self, stamps: Sequence[int | None], codec: str, time_base: float) -> Timeline:
        """This timeline after decoding all of it.

        Args:
            stamps: those of the frames that the decoder gave, in its order.
            codec: canonical name.
            time_base: seconds of a tick.
        """
        count = len(stamps)
        position_of = {stamp: position for position, stamp in enumerate(self.stamps.tolist())}
        found = [position_of.get(stamp) for stamp in stamps if stamp is not None]
        positions = np.array([position for position in found if position is not None], dtype=np.int64)
        step = self.duration / max(self.frame_count, 1)
        # Packets of MPEG-4 may hold two frames, of which one gets the stamp of the next packet ("packed bitstream").
        if not count or len(np.unique(positions)) != count or codec == "mpeg4":
            times = self.times[:count] if count <= self.frame_count else np.arange(count, dtype=np.float64) * step
            return replace(self, counted=True, times=times, duration=float(times[-1]) + step if count else 0.0)
        ranks = np.full(len(self.stamps), -1, dtype=np.int64)
        ranks[positions] = np.arange(count)
        times = self.times
        if count != self.frame_count:
            ticks = np.sort(self.ticks[positions])
            known = ticks[0] != UNKNOWN
            times = (ticks - ticks[0]) * time_base if known else np.arange(count, dtype=np.float64) * step
        return replace(
            self,
            counted=True,
            positions=positions,
            ranks=ranks,
            starts=tuple(start for start in self.starts if ranks[start] >= 0),
            times=times,
            duration=float(times[-1]) + self.duration - float(self.times[-1]),
        )


def make_timeline(
    table: PacketTable, container: InputContainer, stream: VideoStream, codec: str, name: str, limits: ClipLimits
) -> Timeline:
    """Put the frames of a stream in order.

    Args:
        table: its packets.
        container: what the stream is part of.
        stream: the stream.
        codec: canonical name.
        name: name of the source in messages.
        limits: `max_duration` is checked here.

    Raises:
        EmptyVideoError: no packet presents a frame.
        ClipLimitError: the stream is too long.
    """
    format_name = container.format.name
    shown = np.flatnonzero(table.shown)
    if not len(shown):
        raise EmptyVideoError(f"{name} has a video stream but no frames in it; use a video that has frames")
    joined = False
    ticks, dts = table.pts, table.dts
    if format_name in JOINABLE and stream.time_base is not None:
        ticks, dts, joined = _joined(table, round(JUMP / stream.time_base), stream)
    clock, decoding = (ticks, dts) if len(shown) == len(ticks) else (ticks[shown], dts[shown])
    order = np.argsort(clock, kind="stable")
    ascending = clock[order]
    whole = bool(ascending[0] != UNKNOWN) and _ascends(decoding)
    times, duration = _seconds(ascending if whole else None, table.last_duration, len(shown), stream)
    ordered = (
        whole
        and not joined
        # AVI has no presentation times: the ones that FFmpeg makes up are in the wrong order with B-frames.
        and format_name != "avi"
        and bool((ascending[1:] > ascending[:-1]).all())
        and not table.lost_order
    )
    counted = ordered or format_name == "avi"
    everywhere = bool(table.key.all())
    alone = everywhere and (codec in codecs.EACH_FRAME_ALONE or len(table) == 1)
    stamps = ticks
    if not ordered and alone:
        # These codecs do not reorder, and a decoder copies a packet's stamp to its frame: the position serves as one.
        stamps, ordered, counted = np.arange(len(table)), True, True
        order = np.arange(len(shown))
    elif not counted:
        stamps = np.arange(len(table))
    missing = _missing(format_name, stream, table)
    warnings = []
    declared = ((container.duration or 0) - (container.start_time or 0)) / av.time_base
    if missing:
        step = duration / len(times)
        times = np.concatenate([times, duration + step * np.arange(missing)])
        duration += step * missing
        warnings.append(f"the file looks truncated: it has {len(times) - missing} of {len(times)} declared frames")
    elif table.damaged:
        warnings.append(f"the file looks truncated or damaged after frame {len(times) - 1}")
    elif "matroska" in format_name and not container.streams.audio and declared > 1.1 * duration:
        warnings.append(
            f"the file looks truncated: it declares {declared:.3f} s, but its frames end at {duration:.3f} s"
        )
    if duration > limits.max_duration:
        raise ClipLimitError(
            f"{name} lasts {duration:.1f} s, more than the limit of {limits.max_duration:.1f} s; use a part of it"
        )
    return Timeline(
        stamps=stamps,
        ticks=ticks,
        positions=shown[order] if ordered else None,
        ranks=stamps,
        starts=() if not alone and _doubtful(codec, everywhere) else _starts(table),
        counted=counted,
        times=times,
        duration=duration,
        warnings=tuple(warnings),
    )


def _starts(table: PacketTable) -> tuple[int, ...]:
    """Packets that are flagged as key frames, and have the parameter sets that their frames need."""
    flagged = table.key.copy()
    if table.renewed is not None:
        first = np.flatnonzero(flagged)[:1]
        flagged &= table.renewed
        flagged[first] = True
    return tuple(np.flatnonzero(flagged).tolist())


def _doubtful(codec: str, everywhere: bool) -> bool:
    """Whether the flags that say where decoding can start are not to be trusted.

    Args:
        codec: canonical name.
        everywhere: all packets are flagged: what demuxers do where the file does not say.
    """
    if codec in codecs.EACH_FRAME_ALONE:
        return False
    return codec not in codecs.FLAGS_CAN_BE_CHECKED or (everywhere and codec not in codecs.REFLAGGED)


def _joined(table: PacketTable, jump: int, stream: VideoStream) -> tuple[NDArray[np.int64], NDArray[np.int64], bool]:
    """Times of an MPEG stream without wraps and without the jumps between joined recordings.

    Returns:
        Times of presentation and of decoding, and whether recordings were joined.
    """
    dts = np.where(table.dts == UNKNOWN, table.pts, table.dts)
    known = np.flatnonzero(dts != UNKNOWN)
    if len(known) < 2:
        return table.pts, table.dts, False
    steps = np.diff(dts[known])
    wraps = np.zeros(len(dts), dtype=np.int64)
    wraps[known[1:]] = np.round(-steps / WRAP)
    dts = np.where(dts == UNKNOWN, UNKNOWN, dts + WRAP * np.cumsum(wraps))
    # The time of presentation wraps before that of decoding.
    pts = table.pts
    timed = (pts != UNKNOWN) & (dts != UNKNOWN)
    pts = np.where(timed, pts + WRAP * np.round((dts - pts) / WRAP).astype(np.int64), pts)
    steps = np.diff(dts[known])
    jumps = (steps < 0) | (steps > jump)
    if not jumps.any():
        return pts, dts, False
    usual = int(np.median(steps[~jumps])) if not jumps.all() else 0
    end: int | None = None
    for first, past in pairwise([0, *known[1:][jumps].tolist(), len(dts)]):
        part = slice(first, past)
        shown = pts[part][pts[part] != UNKNOWN]
        if len(shown):
            offset = end + usual - int(shown.min()) if end is not None else 0
            for values in (pts, dts):
                values[part] = np.where(values[part] == UNKNOWN, UNKNOWN, values[part] + offset)
            end = int(shown.max()) + offset
    return pts, dts, True


def _ascends(decoding: NDArray[np.int64]) -> bool:
    """Whether decoding timestamps never jump back; they do in recordings joined end to end."""
    back = decoding[1:] < decoding[:-1]
    if not back.any():
        return True
    known = decoding[decoding != UNKNOWN]
    return bool((known[1:] >= known[:-1]).all())


def _seconds(
    clock: NDArray[np.int64] | None, last_duration: int, count: int, stream: VideoStream
) -> tuple[NDArray[np.float64], float]:
    """Seconds from the first frame to each frame, and to the end of the last; evenly spaced without a clock."""
    rate = stream.average_rate or stream.guessed_rate
    even = rate.denominator / rate.numerator if rate else 0.04
    base = stream.time_base
    if clock is None or base is None:
        return np.arange(count, dtype=np.float64) * even, count * even
    # Multiply integers, then divide once: 5 frames of 1/25 s are 0.2, not 0.20000000000000001.
    times = ((clock - clock[0]) * base.numerator / base.denominator).astype(np.float64)
    step = last_duration * base.numerator / base.denominator
    if not 0 < step <= 10:
        step = float(np.median(np.diff(times))) if count > 1 else even
    return times, float(times[-1]) + (step or even)


def _missing(format_name: str, stream: VideoStream, table: PacketTable) -> int:
    """Frames that the container's index declares but the file no longer holds."""
    if "mp4" in format_name:
        return max(len(stream.index_entries) - table.stored, 0)
    return max(stream.frames - table.stored, 0) if table.damaged and format_name == "avi" else 0
