"""Feeds the decoder only the packets that the requested frames need, or all packets in order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, count

from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from sefar_serve.clip import codecs
from sefar_serve.clip.errors import DAMAGE
from sefar_serve.clip.packets import Packets
from sefar_serve.clip.timeline import Timeline


class WrongKeyError(Exception):
    """The file flags a packet as a key frame, and its frame is predicted from others."""


class Decoder:
    """One codec context over the packets of one stream; not thread-safe.

    Args:
        codec: the stream's context, not yet opened.
        packets: the packets to feed it.
        timeline: which frames they hold.
        max_pixels: limit on the pixels of a frame. A stream may change its frame size midway; larger frames
            do not decode.
        threads: 1 decodes in the caller's thread; 0 lets FFmpeg choose.
    """

    def __init__(
        self, codec: VideoCodecContext, packets: Packets, timeline: Timeline, *, max_pixels: int, threads: int
    ) -> None:
        self._codec = codec
        # Decoders check sizes padded to whole blocks, so leave some room.
        self._codec.options = {**codec.options, "max_pixels": str(max(2 * max_pixels, 65_536))}
        self._codec.thread_count = threads
        if threads != 1:
            self._codec.thread_type = "AUTO"
        # Open it before setting skip_frame: libdav1d keeps the value it was opened with.
        self._codec.open()
        self._name: str = codec.codec.canonical_name
        self._packets = packets
        self.timeline = timeline
        self._fed = False

    def exact(self, numbers: Iterable[int]) -> Iterator[tuple[int, VideoFrame]]:
        """Decode the given frames and as few others as possible; needs a timeline with positions.

        Yields:
            (number, frame), each once, in the order of the decoder's output. Frames that do not decode are skipped.

        Raises:
            DAMAGE: the exceptions that PyAV raises on damaged data.
            WrongKeyError: the flags of key frames are wrong; nothing after a wrong one was given.
        """
        codec, stamps, positions = self._codec, self.timeline.stamps, self.timeline.positions
        assert positions is not None
        for begin, end, members in self._runs(numbers):
            self._restart()
            remaining: dict[int | None, int] = {int(stamps[positions[n]]): n for n in members}
            unchecked = int(stamps[begin]) if begin else None
            for packet in chain(self._packets.feed(begin, end), (None,)):
                # Skip non-reference frames unless they are requested.
                wanted = packet is None or packet.pts in remaining
                codec.skip_frame = "DEFAULT" if wanted else "NONREF"
                for frame in codec.decode(packet):
                    if unchecked is not None and frame.pts == unchecked:
                        unchecked = None
                        if self._name in codecs.FLAGS_CAN_BE_CHECKED and not codecs.starts_decoding(self._name, frame):
                            raise WrongKeyError
                    number = remaining.pop(frame.pts, None)
                    if number is not None:
                        yield number, frame
                if not remaining:
                    break

    def packets_for(self, numbers: Iterable[int]) -> int:
        """How many packets `exact` feeds for the given frames; for a timeline without positions, all that there are."""
        if self.timeline.positions is None:
            return len(self._packets.table)
        return sum(end - begin + 1 for begin, end, _ in self._runs(numbers))

    def in_turn(self) -> Iterator[VideoFrame]:
        """Decode the stream from its first packet to its last, continuing after errors."""
        self._restart()
        self._codec.skip_frame = "DEFAULT"
        for packet in chain(self._packets.feed(0, len(self._packets.table) - 1), (None,)):
            try:
                frames = self._codec.decode(packet)
            except DAMAGE:
                continue
            yield from frames

    def everything(self) -> Iterator[tuple[int, VideoFrame]]:
        """Decode the stream from its first packet to its last, continuing after errors.

        Yields:
            (number, frame) of each frame that decodes, in the order of the decoder's output.
        """
        numbers, counter = self.timeline.numbers(), count()
        for frame in self.in_turn():
            number = next(counter) if self.timeline.positions is None else numbers.get(frame.pts)
            if number is not None:
                yield number, frame

    def _runs(self, numbers: Iterable[int]) -> Iterator[tuple[int, int, list[int]]]:
        """Ranges [begin, end] of packets to feed without a restart, and the frames to take from each."""
        timeline = self.timeline
        assert timeline.positions is not None
        begin, end = 0, 0
        members: list[int] = []
        for start, position, number in sorted((timeline.start_of(n), int(timeline.positions[n]), n) for n in numbers):
            # Continuing is cheaper than flushing and restarting one packet later.
            if members and start > end + 1:
                yield begin, end, members
                members = []
            if not members:
                begin, end = start, position
            end = max(end, position)
            members.append(number)
        if members:
            yield begin, end, members

    def _restart(self) -> None:
        if self._fed:
            self._codec.flush_buffers()
        self._fed = True
