"""Opening a video: from a path, bytes or a file object to a container and the stream to decode."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import IO

import av
from av.container import InputContainer
from av.stream import Discard, Disposition
from av.video.stream import VideoStream

from sefar_serve.clip.errors import (
    ClipLimitError,
    EmptyVideoError,
    NotAVideoError,
    NoVideoStreamError,
    UndecodableVideoError,
    damage_as,
)
from sefar_serve.clip.limits import ClipLimits

VideoSource = str | os.PathLike[str] | bytes | IO[bytes]
"""A path on this machine, the bytes of a video file, or a binary file object."""

# Playlists (hls, dash, concat) would have a stranger's file open other files and addresses, and
# pictures or plain text are no video: only containers which hold their own frames are tried.
CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,obu,ivf,flv,asf,ogg,"
    "mxf,nut,gif,dv,rm,wtv,swf,yuv4mpegpipe,mp3,wav,flac,aac,aiff,amr,w64,caf"
)


def source_name(source: VideoSource) -> str:
    """How messages call a source that was given no name."""
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    if isinstance(source, bytes):
        return f"video of {len(source)} bytes"
    name = getattr(source, "name", None)  # an int for files that have none
    return name if isinstance(name, str) else "video from a file object"


def open_container(source: VideoSource, name: str, limits: ClipLimits) -> InputContainer:
    """Open a container after checking its size.

    Args:
        source: a local path (never taken for an address), the bytes, or a file object read from its start.
        name: what messages call it.
        limits: `max_bytes` is checked here.

    Raises:
        FileNotFoundError, PermissionError, IsADirectoryError: as `open` does.
        EmptyVideoError: zero bytes.
        ClipLimitError: more than `max_bytes`.
        NotAVideoError: no container that FFmpeg knows.
    """
    if isinstance(source, bytes):
        handle: IO[bytes] | None = io.BytesIO(source)
        size, head = len(source), source[:64]
    elif isinstance(source, str | os.PathLike):
        with Path(source).open("rb") as file:
            size, head = os.fstat(file.fileno()).st_size, file.read(64)
        handle = None
    else:
        handle = source if source.seekable() else io.BytesIO(source.read(limits.max_bytes + 1))
        handle.seek(0, io.SEEK_END)
        size = handle.tell()
        handle.seek(0)
        head = handle.read(64)
        handle.seek(0)
    if size == 0:
        raise EmptyVideoError(f"{name} is empty (0 bytes); send the whole file")
    if size > limits.max_bytes:
        raise ClipLimitError(
            f"{name} has {size} bytes, {limits.max_bytes} are allowed; send a shorter or smaller video"
        )
    if _is_mp4(head):
        mend = (
            f"{name} starts like an MP4 but has no readable index: it looks truncated or damaged; "
            "send the whole file, or write it again with its index in front (ffmpeg -movflags +faststart)"
        )
    else:
        mend = f"{name} is not a video file that can be read; send MP4, MOV, MKV, WebM, AVI or MPEG-TS"
    with damage_as(NotAVideoError, mend):
        return av.open(
            # The prefix keeps a file called `concat:…` or `http:…` a file.
            handle if handle is not None else f"file:{source_name(source)}",
            mode="r",  # else PyAV takes the file object's own mode, "w+b" for a spooled upload
            options={"format_whitelist": CONTAINERS, "protocol_whitelist": "file"},
            metadata_errors="replace",
        )


def _is_mp4(head: bytes) -> bool:
    return head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")


def choose_stream(container: InputContainer, name: str, limits: ClipLimits) -> tuple[VideoStream, tuple[str, ...]]:
    """Choose the stream to decode: the container's default, else the largest; cover pictures do not count.

    Returns:
        The stream, and a warning naming the choice where there was one.

    Raises:
        NoVideoStreamError: only audio, subtitles, cover pictures.
        UndecodableVideoError: FFmpeg has no decoder for it, or its header says no picture size.
        ClipLimitError: pictures of more than `max_pixels`.
    """
    with damage_as(NotAVideoError, f"{name} has a damaged header; send the whole, original file"):
        streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
        if not streams:
            kinds = ", ".join(sorted({s.type for s in container.streams})) or "nothing"
            raise NoVideoStreamError(f"{name} has no video stream, only {kinds}; send a file with pictures")
        best = container.streams.best("video")
        chosen = next((s for s in streams if best is not None and s.index == best.index), None)
        # A stream FFmpeg has no decoder for has no codec context at all.
        decodable = [s for s in streams if s.codec_context is not None]
        if chosen is None or chosen.codec_context is None:
            chosen = max(decodable, key=lambda s: s.codec_context.width * s.codec_context.height, default=None)
    if chosen is None:
        raise UndecodableVideoError(
            f"{name} is in a codec this server has no decoder for; convert it to H.264, HEVC, VP9 or AV1"
        )
    codec = chosen.codec_context
    if codec.width < 1 or codec.height < 1:
        raise UndecodableVideoError(f"{name} does not say how large its pictures are; it is cut or damaged")
    if codec.width * codec.height > limits.max_pixels:
        raise ClipLimitError(
            f"{name} has frames of {codec.width}x{codec.height}, {limits.max_pixels} pixels are allowed; scale it down"
        )
    for stream in container.streams:
        if stream.index != chosen.index:
            stream.discard = Discard.all
    if len(streams) == 1:
        return chosen, ()
    others = ", ".join(_described(s) for s in streams if s.index != chosen.index)
    return chosen, (f"several video streams: took {_described(chosen)}, left {others}",)


def _described(stream: VideoStream) -> str:
    codec = stream.codec_context
    size = f" ({codec.width}x{codec.height})" if codec is not None else " (no decoder)"
    return f"stream {stream.index}{size}"
