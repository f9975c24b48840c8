"""The packets of a stream: what is known of each, and their data, held in memory or read again from the file."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from av.container import InputContainer
from av.packet import Packet, PacketSideData, PktSideDataT, packet_sidedata_type_from_literal
from av.video.stream import VideoStream
from numpy.typing import NDArray

from sefar_serve.clip import codecs
from sefar_serve.clip.errors import DAMAGE, ClipLimitError, EmptyVideoError, UndecodableVideoError
from sefar_serve.clip.limits import ClipLimits

HELD = 64 * 1024**2
"""Bytes of packets that an open video keeps in memory. Of larger videos only the wanted packets are read, again."""

NEAR = 1024**2
"""Bytes that are read and ignored rather than jumped over."""

LOST = 256
"""Packets read after a jump before the file is read from its start instead, because none of them is recognised."""

UNKNOWN = np.iinfo(np.int64).min
"""A timestamp or a place in the file that a packet does not have."""


@dataclass(frozen=True)
class PacketTable:
    """What is known of the P packets of a stream, in the order of the file.

    Attributes:
        pts: int64 (P,), times of presentation in the stream's time base; `UNKNOWN` if missing.
        dts: int64 (P,), times of decoding.
        pos: int64 (P,), places in the file; several packets may share one.
        size: int64 (P,), bytes.
        key: bool (P,), flagged as key frames.
        discard: bool (P,), decoded but not shown, because of an edit list.
        shown: bool (P,), the others are discarded, or hold a frame that is never shown.
        renewed: for a key packet, whether it has all parameter sets that its frame needs, bool (P,); None if all
            parameter sets of the stream are the same, or are stored outside of packets.
        lost_order: frames are shown in another order than the times of presentation say: these ascend in the order of
            storage, though the decoder reorders frames. Copying from AVI or from a raw stream does that.
        beside: by type of side data, the packets that have new settings for the decoder, and the settings.
        stored: number of packets in the file, with those that are empty.
        damaged: reading stopped at damage.
        last_duration: duration of the last packet, in the stream's time base; 0 if unknown.
    """

    pts: NDArray[np.int64]
    dts: NDArray[np.int64]
    pos: NDArray[np.int64]
    size: NDArray[np.int64]
    key: NDArray[np.bool_]
    discard: NDArray[np.bool_]
    shown: NDArray[np.bool_]
    renewed: NDArray[np.bool_] | None
    lost_order: bool
    beside: Mapping[PktSideDataT, tuple[tuple[int, bytes], ...]]
    stored: int
    damaged: bool
    last_duration: int

    def __len__(self) -> int:
        return len(self.pts)


@dataclass
class _Columns:
    """A `PacketTable` while it is filled."""

    codec: str
    extradata: bytes
    types: tuple[PktSideDataT, ...]
    reorders: bool
    dated: bool
    parts: dict[str, list[NDArray[Any]]] = field(default_factory=dict)
    beside: dict[PktSideDataT, list[tuple[int, bytes]]] = field(default_factory=dict)
    sets: dict[int, tuple[bytes, bool]] = field(default_factory=dict)
    count: int = 0
    last_duration: int = 0
    ascends: bool = True
    bidirectional: bool = False

    def add(self, packets: list[Packet[VideoStream]]) -> None:
        """Take what is known of packets, which may be forgotten then."""
        if not packets:
            return
        columns: dict[str, Any] = {
            "pts": [UNKNOWN if (value := p.pts) is None else value for p in packets],
            "dts": [UNKNOWN if (value := p.dts) is None else value for p in packets],
            "pos": [UNKNOWN if (value := p.pos) is None or value < 0 else value for p in packets],
            "size": [p.size for p in packets],
            "key": [p.is_keyframe for p in packets],
            "discard": [p.is_discard for p in packets],
        }
        shown = ~np.array(columns["discard"])
        if self.codec == "vp8":
            shown &= [not _is_hidden_vp8(p) for p in packets]
        columns["shown"] = shown
        for name, values in columns.items():
            self.parts.setdefault(name, []).append(np.array(values))
        for kind in self.types:
            for index, packet in enumerate(packets):
                if packet.has_sidedata(kind):
                    settings = bytes(packet.get_sidedata(kind))
                    self.beside.setdefault(kind, []).append((self.count + index, settings))
        if codecs.has_parameter_sets(self.codec):
            for index, is_key in enumerate(columns["key"]):
                if is_key:
                    found = codecs.parameter_sets(self.codec, self.extradata, packets[index])
                    self.sets[self.count + index] = found
        if self.reorders and self.ascends:
            self._find_lost_order(packets, columns["shown"])
        self.count += len(packets)
        self.last_duration = packets[-1].duration or 0

    def _find_lost_order(self, packets: list[Packet[VideoStream]], shown: NDArray[np.bool_]) -> None:
        pts, dts = (self.parts[name][-1] for name in ("pts", "dts"))
        seen = pts[shown]
        # Matroska stores no times of decoding. Elsewhere they differ from those of presentation if frames reorder.
        self.ascends = bool((seen[1:] > seen[:-1]).all()) and (not self.dated or bool((pts == dts).all()))
        if self.ascends and not self.bidirectional:
            # Many encoders announce that they reorder, and do not.
            self.bidirectional = self.codec != "h264" or any(
                codecs.is_bidirectional(self.extradata, packet) for packet in packets
            )

    def table(self, stored: int, damaged: bool) -> PacketTable:
        columns = {name: np.concatenate(parts) if len(parts) > 1 else parts[0] for name, parts in self.parts.items()}
        beside = {kind: tuple(found) for kind, found in self.beside.items()}
        return PacketTable(
            **columns,
            renewed=self._renewed(),
            lost_order=self.reorders and self.ascends and self.bidirectional and self.count > 1,
            beside=beside,
            stored=stored,
            damaged=damaged,
            last_duration=self.last_duration,
        )

    def _renewed(self) -> NDArray[np.bool_] | None:
        in_force, seen = b"", set()
        renewed = np.zeros(self.count, dtype=np.bool_)
        for position, (sets, complete) in self.sets.items():
            if complete:
                in_force = sets
            elif not in_force.endswith(sets):
                in_force += sets
            seen.add(in_force)
            renewed[position] = complete
        return renewed if len(seen) > 1 else None


def read_packets(
    container: InputContainer, stream: VideoStream, codec: str, name: str, limits: ClipLimits
) -> tuple[PacketTable, list[Packet[VideoStream]] | None]:
    """Read all packets of a stream, without decoding them.

    Args:
        container: open, and positioned at its start.
        stream: the stream to read.
        codec: canonical name.
        name: name of the source in messages.
        limits: `max_frames` is checked here.

    Returns:
        What is known of them, and the packets, if they have no more than `HELD` bytes together.

    Raises:
        EmptyVideoError: the stream is damaged before its first packet, or has none.
        ClipLimitError: it has too many frames.
    """
    context = stream.codec_context
    types: tuple[PktSideDataT, ...] = ("new_extradata",)
    if context.pix_fmt == "pal8" or context.bits_per_coded_sample in range(1, 9):
        types = ("new_extradata", "palette")
    dated = "matroska" not in container.format.name
    columns = _Columns(codec, context.extradata or b"", types, bool(context.has_b_frames), dated)
    packets: list[Packet[VideoStream]] = []
    holds = True
    count, held, stored, damaged = 0, 0, 0, False
    try:
        for packet in container.demux(stream):
            size = packet.size
            stored += packet.dts is not None or size > 0
            if size:  # an empty packet would tell the decoder that the stream has ended
                packets.append(packet)
                count += 1
                held += size
                damaged = packet.is_corrupt
                if held > HELD:
                    columns.add(packets)
                    packets, held, holds = [], 0, False
            if count > limits.max_frames:
                raise ClipLimitError(f"{name} has more frames than the limit of {limits.max_frames}; use a part of it")
    except DAMAGE as error:
        if not count:
            raise EmptyVideoError(
                f"{name} is damaged before its first frame ({error}); use an undamaged file"
            ) from error
        damaged = True
    if not count:
        raise EmptyVideoError(f"{name} has a video stream but no frames in it; use a video that has frames")
    columns.add(packets)
    return columns.table(stored, damaged), packets if holds else None


def _is_hidden_vp8(packet: Packet[VideoStream]) -> bool:
    """VP8 stores alternate reference frames, which are never shown, as packets of their own."""
    return not (memoryview(packet)[0] >> 4) & 1


Opened = tuple[InputContainer, VideoStream]


class Packets:
    """Gives the packets of a stream to a decoder, from any place on.

    Packets that are not held are read again from the file. Each is compared with what is known of it, because jumping
    in a file is not exact in many containers: where it fails, the file is read from its start.

    Args:
        table: what is known of the packets.
        held: the packets; None if they are read again.
        opened: the open container, and the stream.
        reopen: opens them again, positioned at the start.
        extradata: the decoder's settings at the start.
        name: name of the source in messages.
    """

    def __init__(
        self,
        table: PacketTable,
        held: list[Packet[VideoStream]] | None,
        opened: Opened,
        reopen: Callable[[], Opened],
        extradata: bytes,
        name: str,
    ) -> None:
        self.table = table
        self._held = held
        self._opened = opened
        self._reopen = reopen
        self._extradata = extradata
        self._name = name
        self._stamps: NDArray[np.int64] | None = None
        self._reading: Iterator[Packet[VideoStream]] | None = None
        self._next = 0
        self._from_start = False

    def stamp(self, stamps: NDArray[np.int64]) -> None:
        """Give the packets other times of presentation, int64 (P,), by which frames are recognised."""
        self._stamps = stamps
        if self._held is not None and stamps is not self.table.pts:
            for packet, stamp in zip(self._held, stamps.tolist(), strict=True):
                packet.pts = stamp

    def feed(self, begin: int, end: int) -> Iterator[Packet[VideoStream]]:
        """The packets from `begin` to `end`, which is included. The first has the decoder's settings at that place.

        Raises:
            UndecodableVideoError: the file is not what it was when it was opened.
        """
        packets = self._again(begin, end) if self._held is None else iter(self._held[begin : end + 1])
        if self.table.beside:
            first = next(packets, None)
            if first is not None:
                for kind, settings in self._beside(begin):
                    side = PacketSideData(packet_sidedata_type_from_literal(kind), len(settings))  # type: ignore[call-arg]
                    side.update(settings)
                    first.set_sidedata(side)
                yield first
        yield from packets

    def _beside(self, position: int) -> Iterator[tuple[PktSideDataT, bytes]]:
        """The settings that are in force at a packet, by type of side data."""
        for kind, found in self.table.beside.items():
            last = bisect_right(found, position, key=lambda one: one[0])
            if last:
                yield kind, found[last - 1][1]
            elif kind == "new_extradata" and self._extradata:
                yield kind, self._extradata

    def _again(self, begin: int, end: int) -> Iterator[Packet[VideoStream]]:
        """Read packets again."""
        if self._reading is None or not self._is_near(begin):
            self._jump(begin)
        position = begin
        while position <= end:
            packet = self._take()
            if packet is None or not self._is_same(packet, self._next):
                if self._from_start:
                    raise UndecodableVideoError(f"{self._name} changed while it was read; try again")
                self._rewind()
                continue
            self._next += 1
            if self._next == position + 1:
                position += 1
                if self._stamps is not None and (stamp := int(self._stamps[self._next - 1])) != UNKNOWN:
                    packet.pts = stamp
                yield packet

    def _is_near(self, begin: int) -> bool:
        return self._next <= begin and int(self.table.size[self._next : begin].sum()) <= NEAR

    def _jump(self, begin: int) -> None:
        """Go to a packet at or before `begin`, and know which one it is."""
        container, stream = self._opened
        earlier = np.flatnonzero(self.table.key[:begin])
        for target in (begin, int(earlier[-4]) if len(earlier) >= 4 else 0):
            if target == 0:
                break
            try:
                if container.format.name in _BY_BYTE and self.table.pos[target] != UNKNOWN:
                    container.seek(int(self.table.pos[target]), stream=stream, unsupported_byte_offset=True)
                else:
                    known = [int(t) for t in (self.table.pts[target], self.table.dts[target]) if t != UNKNOWN]
                    if not known:
                        break
                    container.seek(min(known), stream=stream)
            except DAMAGE:
                break
            self._reading = container.demux(stream)
            self._from_start = False
            for _ in range(LOST):
                packet = self._take()
                found = self._recognised(packet) if packet is not None else None
                if packet is None or (found is not None and found > begin):
                    break
                if found is not None:
                    self._next = found
                    self._reading = _before(packet, self._reading)
                    return
        self._rewind()

    def _recognised(self, packet: Packet[VideoStream]) -> int | None:
        if packet.pos is None or packet.pos < 0:
            return None
        found = np.flatnonzero((self.table.pos == packet.pos) & (self.table.size == packet.size))
        return int(found[0]) if len(found) == 1 else None

    def _is_same(self, packet: Packet[VideoStream], position: int) -> bool:
        if position >= len(self.table) or packet.size != self.table.size[position]:
            return False
        pos = UNKNOWN if packet.pos is None or packet.pos < 0 else packet.pos
        return bool(pos == self.table.pos[position] and packet.is_discard == self.table.discard[position])

    def _take(self) -> Packet[VideoStream] | None:
        """The next packet that is not empty; None at the end, or at damage."""
        assert self._reading is not None
        try:
            return next((packet for packet in self._reading if packet.size), None)
        except DAMAGE:
            return None

    def _rewind(self) -> None:
        self._opened[0].close()
        self._opened = container, stream = self._reopen()
        self._reading = container.demux(stream)
        self._next = 0
        self._from_start = True

    def close(self) -> None:
        """Close the file."""
        self._opened[0].close()


_BY_BYTE = frozenset({"mpegts", "mpeg"})
"""Containers in which a jump to a place in the file is more exact than one to a time."""


def _before(first: Packet[VideoStream], rest: Iterator[Packet[VideoStream]]) -> Iterator[Packet[VideoStream]]:
    yield first
    yield from rest
