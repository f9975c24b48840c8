"""Feeds the decoder only the packets that the requested frames need, or all packets in order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import count

from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from sefar_serve.clip.errors import DAMAGE
from sefar_serve.clip.timeline import Timeline


class Decoder:
    """One codec context over one timeline; not thread-safe.

    Args:
        codec: the stream's context, not yet opened.
        timeline: the packets to feed it.
        max_pixels: limit on the pixels of a frame. A stream may change its frame size midway; larger frames
            do not decode.
        threads: 1 decodes in the caller's thread; 0 lets FFmpeg choose.
    """

    def __init__(self, codec: VideoCodecContext, timeline: Timeline, *, max_pixels: int, threads: int) -> None:
        self._codec = codec
        # Decoders check sizes padded to whole blocks, so leave some room.
        self._codec.options = {**codec.options, "max_pixels": str(max(2 * max_pixels, 65_536))}
        self._codec.thread_count = threads
        if threads != 1:
            self._codec.thread_type = "AUTO"
        # Open it before setting skip_frame: libdav1d keeps the value it was opened with.
        self._codec.open()
        self.timeline = timeline
        self._fed = False

    def exact(self, numbers: Iterable[int]) -> Iterator[tuple[int, VideoFrame]]:
        """Decode the given frames and as few others as possible; needs an ordered timeline.

        Yields:
            (number, frame), each once, in the order of the decoder's output. Frames that do not decode are skipped.

        Raises:
            DAMAGE: the exceptions that PyAV raises on damaged data.
        """
        timeline, codec = self.timeline, self._codec
        for begin, end, members in self._runs(numbers):
            self._restart()
            remaining: dict[int | None, int] = {int(timeline.pts[n]): n for n in members}
            for packet in (*timeline.packets[begin : end + 1], None):
                # Skip non-reference frames unless they are requested.
                wanted = packet is None or packet.pts in remaining
                codec.skip_frame = "DEFAULT" if wanted else "NONREF"
                for frame in codec.decode(packet):
                    number = remaining.pop(frame.pts, None)
                    if number is not None:
                        yield number, frame
                if not remaining:
                    break

    def packets_for(self, numbers: Iterable[int]) -> int:
        """How many packets `exact` feeds for the given frames; for a timeline without order, all that there are."""
        if not self.timeline.ordered:
            return len(self.timeline.packets)
        return sum(end - begin + 1 for begin, end, _ in self._runs(numbers))

    def everything(self) -> Iterator[tuple[int, VideoFrame]]:
        """Decode the stream from its first packet to its last, continuing after errors.

        Yields:
            (number, frame) of each frame that decodes, in the order of the decoder's output.
        """
        timeline = self.timeline
        number_of: dict[int | None, int] = {int(pts): n for n, pts in enumerate(timeline.pts)}
        counter = count()
        self._restart()
        self._codec.skip_frame = "DEFAULT"
        feed: tuple[Packet[VideoStream] | None, ...] = (*timeline.packets, None)
        for packet in feed:
            try:
                frames = self._codec.decode(packet)
            except DAMAGE:
                continue
            for frame in frames:
                number = number_of.get(frame.pts) if timeline.ordered else next(counter)
                if number is not None:
                    yield number, frame

    def _runs(self, numbers: Iterable[int]) -> Iterator[tuple[int, int, list[int]]]:
        """Ranges [begin, end] of packets to feed without a restart, and the frames to take from each."""
        timeline = self.timeline
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
