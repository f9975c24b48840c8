"""Opening: from path, bytes or file object to a chosen video stream and its packets, nothing decoded yet."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream
from numpy.typing import NDArray

from sefar_serve.clip.errors import (
    ClipLimitError,
    EmptyVideoError,
    NotAVideoError,
    NoVideoStreamError,
)

VideoSource = str | os.PathLike[str] | bytes | BinaryIO
"""A path on this machine, the bytes of a video file, or a seekable binary file object."""

# Only real containers and raw streams. FFmpeg would also open playlists, whose entries name other
# files and addresses, and take plain text for ANSI art.
_FORMATS = (
    "mov,mp4,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,ogg,asf,mxf,gif,ivf,dv,nut,rm,wtv,3gp,m4v,"
    "h264,hevc,av1,obu,vob,wav,mp3,aac,flac,aiff"
)

# PyAV raises these on broken files, besides its own; the last two from paths and names it cannot read.
LIBAV_ERRORS = (av.error.FFmpegError, EOFError, IndexError, AttributeError, ValueError)

_MIB = 1024 * 1024


@dataclass(frozen=True)
class ClipLimits:
    """Most that one video may be; checked before anything is decoded.

    Attributes:
        max_bytes: of the file.
        max_pixels: of one frame.
        max_duration: seconds.
        max_frames: frames in the video.
    """

    max_bytes: int = 512 * _MIB
    max_pixels: int = 8192 * 4320
    max_duration: float = 4 * 3600.0
    max_frames: int = 1_000_000


def source_name(source: VideoSource) -> str:
    """What to call a source in messages."""
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source)
    return str(getattr(source, "name", None) or "video")


@contextmanager
def open_container(source: VideoSource, name: str, limits: ClipLimits) -> Iterator[InputContainer]:
    """Open a source for reading.

    Raises:
        EmptyVideoError: it has no bytes.
        ClipLimitError: it has too many.
        NotAVideoError: it is no video container.
        OSError: the path cannot be read.
    """
    file: str | BinaryIO
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        size = path.stat().st_size
        file = str(path.absolute())  # never taken for a protocol, as "http:…" or "concat:…" would be
        if path.is_dir():
            raise IsADirectoryError(21, "Is a directory, not a video", str(path))
    else:
        file = io.BytesIO(source) if isinstance(source, bytes) else source
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
    if size == 0:
        raise EmptyVideoError(f"{name} is empty: it has no bytes; was the upload cut off?")
    if size > limits.max_bytes:
        raise ClipLimitError(f"{name} has {size} bytes, more than the allowed {limits.max_bytes}; cut it shorter")
    try:
        container = av.open(file, metadata_errors="ignore", options={"format_whitelist": _FORMATS})
    except LIBAV_ERRORS as error:
        raise NotAVideoError(
            f"{name} is not a video that can be read ({_reason(error)}); it may be another kind of file, or cut "
            "off before its index"
        ) from error
    with container:
        yield container


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error or type(error).__name__)


def choose_stream(container: InputContainer, name: str) -> tuple[VideoStream, tuple[str, ...]]:
    """The video stream to show: the container's default, of several the largest.

    Returns:
        The stream, and a warning where there was a choice.

    Raises:
        NoVideoStreamError: there is none, or none that can be decoded.
    """
    pictures = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    # A codec that this build cannot decode leaves the stream without a codec context.
    usable = [s for s in pictures if s.codec_context is not None and s.codec_context.width > 0]
    if not usable:
        found = ", ".join(sorted({s.type for s in container.streams})) or "none"
        raise NoVideoStreamError(f"{name} has no video stream that can be decoded (streams: {found})")
    default = [s for s in usable if s.disposition & Disposition.default] or usable
    chosen = max(default, key=lambda s: (s.codec_context.width * s.codec_context.height, -s.index))
    if len(usable) == 1:
        return chosen, ()
    size = f"{chosen.codec_context.width}x{chosen.codec_context.height}"
    return chosen, (f"{len(usable)} video streams; showing number {chosen.index} ({size})",)


@dataclass(frozen=True)
class PacketIndex:
    """Every packet of a stream in feeding order, and which frame each one becomes.

    Attributes:
        packets: as demuxed.
        timed: whether frames can be told by their presentation time; otherwise they are counted.
        pts: int64 (N,), presentation times of the frames in order of presentation, in `time_base`.
        position: int64 (N,), the packet that becomes each frame.
        key: int64 (N,), the key packet from which decoding reaches each frame exactly.
        damaged: whether demuxing ended early.
    """

    packets: list[av.Packet]
    timed: bool
    pts: NDArray[np.int64]
    position: NDArray[np.int64]
    key: NDArray[np.int64]
    damaged: bool


def index_packets(container: InputContainer, stream: VideoStream, name: str, limits: ClipLimits) -> PacketIndex:
    """Read every packet of a stream, decoding none.

    Raises:
        ClipLimitError: too many frames or too long.
    """
    packets: list[av.Packet] = []
    damaged = False
    try:
        for packet in container.demux(stream):
            if packet.size:  # the last one is an empty flush packet
                packets.append(packet)
            if len(packets) > limits.max_frames:
                raise ClipLimitError(f"{name} has more than the allowed {limits.max_frames} frames; cut it shorter")
    except LIBAV_ERRORS as error:
        if isinstance(error, ClipLimitError):
            raise
        damaged = True
    shown = [i for i, packet in enumerate(packets) if not packet.is_discard]
    times = [packets[i].pts for i in shown]
    # AVI stores no presentation times; those that libav makes up are wrong with B-frames.
    timed = "avi" not in container.format.name and None not in times and len(set(times)) == len(times)
    if not timed:
        count = np.arange(len(shown), dtype=np.int64)
        return PacketIndex(packets, False, count, count, np.zeros_like(count), damaged)
    pts = np.array(times, np.int64)
    order = np.argsort(pts, kind="stable")
    pts, position = pts[order], np.array(shown, np.int64)[order]
    if len(pts) and float((pts[-1] - pts[0]) * stream.time_base) > limits.max_duration:
        raise ClipLimitError(f"{name} is longer than the allowed {limits.max_duration:g} s; cut it shorter")
    return PacketIndex(packets, True, pts, position, _keys(packets, pts, position), damaged)


def _keys(packets: list[av.Packet], pts: NDArray[np.int64], position: NDArray[np.int64]) -> NDArray[np.int64]:
    """The latest key packet at or before each frame's packet whose own time is not after the frame's.

    The second condition is for open groups of pictures: frames that follow a key packet in the file but
    precede it in time need the group before.
    """
    keys = [(i, packet.pts) for i, packet in enumerate(packets) if packet.is_keyframe]
    places = np.array([place for place, _ in keys], np.int64)
    found = np.zeros(len(pts), np.int64)
    for frame, (time, place) in enumerate(zip(pts, position, strict=True)):
        k = int(np.searchsorted(places, place, side="right")) - 1
        while k > 0 and (keys[k][1] is None or keys[k][1] > time):
            k -= 1
        found[frame] = places[k] if k >= 0 else 0
    return found
