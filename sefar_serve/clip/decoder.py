"""Feeding the decoder: exactly the packets that the wanted frames need, or everything in turn."""

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
        timeline: what to feed it.
        max_pixels: a stream may change its picture size in the middle; larger ones do not decode.
        threads: 1 decodes in the caller's thread; 0 lets FFmpeg choose.
    """

    def __init__(self, codec: VideoCodecContext, timeline: Timeline, *, max_pixels: int, threads: int) -> None:
        self._codec = codec
        # Decoders check sizes padded to whole blocks, hence the allowance.
        self._codec.options = {**codec.options, "max_pixels": str(max(2 * max_pixels, 65_536))}
        self._codec.thread_count = threads
        if threads != 1:
            self._codec.thread_type = "AUTO"
        # Opened before anything is skipped: libdav1d keeps for good what it is told to skip at opening.
        self._codec.open()
        self.timeline = timeline
        self._fed = False

    def exact(self, numbers: Iterable[int]) -> Iterator[tuple[int, VideoFrame]]:
        """Decode the given frames and as little else as they need; only on an ordered timeline.

        Yields:
            (number, frame), each once, in decoding order. Frames that do not decode are left out.

        Raises:
            DAMAGE: as PyAV does.
        """
        timeline, codec = self.timeline, self._codec
        for begin, end, members in self._runs(numbers):
            self._restart()
            remaining: dict[int | None, int] = {int(timeline.pts[n]): n for n in members}
            for packet in (*timeline.packets[begin : end + 1], None):
                # What nothing else refers to is skipped unless it is wanted itself.
                wanted = packet is None or packet.pts in remaining
                codec.skip_frame = "DEFAULT" if wanted else "NONREF"
                for frame in codec.decode(packet):
                    number = remaining.pop(frame.pts, None)
                    if number is not None:
                        yield number, frame
                if not remaining:
                    break

    def everything(self) -> Iterator[tuple[int, VideoFrame]]:
        """Decode the stream from its first packet to its last, going on after errors.

        Yields:
            (number, frame) of what decodes, as it comes.
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
        """Stretches [begin, end] of packets to feed without a break, and the frames each is for."""
        timeline = self.timeline
        begin, end = 0, 0
        members: list[int] = []
        for start, position, number in sorted((timeline.start_of(n), int(timeline.positions[n]), n) for n in numbers):
            # Going on is cheaper than draining and starting afresh one packet later.
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
