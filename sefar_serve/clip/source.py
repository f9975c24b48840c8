"""Opens a video (a path, bytes or a file object) and chooses the stream to decode."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import IO

import av
from av.container import InputContainer
from av.stream import Discard, Disposition, Stream
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from sefar_serve.clip.decoders import DECODERS
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
"""A local path, the bytes of a video file, or a binary file object."""

VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".qt", ".mkv", ".webm", ".avi", ".divx", ".wmv", ".asf", ".flv", ".f4v", ".gif"),
    *(".mpg", ".mpeg", ".mpe", ".m1v", ".m2v", ".vob", ".ts", ".mts", ".m2ts", ".m2t", ".mxf", ".dv", ".nut", ".y4m"),
    *(".3gp", ".3g2", ".ogv", ".ogm", ".rm", ".rmvb", ".ivf", ".h264", ".264", ".hevc", ".h265", ".265", ".wtv"),
)
"""Suffixes, in lower case, of the files in a folder that count as videos."""

STILL = frozenset({"mjpeg", "png", "bmp", "gif", "tiff", "webp", "jpegxl"})
"""Codecs of cover pictures."""

HDR = {16: "PQ", 18: "HLG"}
"""Transfer characteristics of HDR by their number in ITU-T H.273."""

# Only containers that hold their own frames: a playlist (hls, dash, concat) in an untrusted file could
# open other files and addresses, and pictures and plain text are not video.
CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,obu,ivf,flv,asf,ogg,"
    "mxf,nut,gif,dv,rm,wtv,swf,yuv4mpegpipe,mp3,wav,flac,aac,aiff,amr,w64,caf"
)


def source_name(source: VideoSource) -> str:
    """The name, in messages, of a source that was given none."""
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    if isinstance(source, bytes):
        if not source:
            return "the video"  # the error says that it is empty
        return f"video of {len(source)} bytes"
    name = getattr(source, "name", None)  # an int for files that have none
    return name if isinstance(name, str) else "video from a file object"


def open_container(source: VideoSource, name: str, limits: ClipLimits) -> InputContainer:
    """Open a container after checking its size.

    Args:
        source: a local path (never treated as a URL), the bytes, or a file object, read from its start.
        name: name of the source in messages.
        limits: `max_bytes` is checked here.

    Raises:
        FileNotFoundError, PermissionError, IsADirectoryError: as `open` does.
        EmptyVideoError: zero bytes.
        ClipLimitError: more than `max_bytes`.
        NotAVideoError: it is not a video container that FFmpeg can read.
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
        raise EmptyVideoError(f"{name} is empty (0 bytes); use the whole file")
    if size > limits.max_bytes:
        raise ClipLimitError(
            f"{name} has {size} bytes, more than the limit of {limits.max_bytes}; use a shorter or smaller video"
        )
    if _is_mp4(head):
        message = (
            f"{name} starts like an MP4 but has no readable index: it looks truncated or damaged; "
            "use the whole file, or rewrite it with its index at the front (ffmpeg -movflags +faststart)"
        )
    else:
        message = f"{name} is not a video file that can be read; use MP4, MOV, MKV, WebM, AVI or MPEG-TS"
    with damage_as(NotAVideoError, message):
        return av.open(
            # With the prefix, a path like `concat:…` or `http:…` is still read as a file.
            handle if handle is not None else f"file:{source_name(source)}",
            mode="r",  # otherwise PyAV takes the file object's own mode, "w+b" for a spooled upload
            options={
                "format_whitelist": CONTAINERS,
                "protocol_whitelist": "file",
                # Otherwise libavformat takes any jump back of more than a minute for a wrap of the clock.
                "correct_ts_overflow": "0",
                "codec_whitelist": ",".join(sorted(DECODERS)),  # FFmpeg decodes first frames when it opens a file
            },
            metadata_errors="replace",
        )


def _is_mp4(head: bytes) -> bool:
    return head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")


def choose_stream(container: InputContainer, name: str, limits: ClipLimits) -> tuple[VideoStream, tuple[str, ...]]:
    """Choose the stream to decode: the container's default, else the largest; cover art is ignored.

    Returns:
        The stream, and a warning that names the choice if there were several.

    Raises:
        NoVideoStreamError: only audio, subtitles, cover art.
        UndecodableVideoError: FFmpeg has no decoder for it, or its header has no picture size.
        ClipLimitError: frames of more than `max_pixels`.
    """
    with damage_as(NotAVideoError, f"{name} has a damaged header; use the whole, original file"):
        streams = _moving(container)
        if not streams:
            kinds = ", ".join(sorted({_kind(s) for s in container.streams})) or "none"
            raise NoVideoStreamError(f"{name} has no video stream (found: {kinds}); use a file with a video stream")
        best = container.streams.best("video")
        chosen = next((s for s in streams if best is not None and s.index == best.index), None)
        decodable = [s for s in streams if _has_decoder(s)]
        if chosen is None or not _has_decoder(chosen):
            chosen = max(decodable, key=lambda s: s.codec_context.width * s.codec_context.height, default=None)
    if chosen is None:
        raise UndecodableVideoError(
            f"{name} uses a codec that is not decoded here; convert it to H.264, HEVC, VP9 or AV1"
        )
    codec = chosen.codec_context
    if codec.width < 1 or codec.height < 1:
        raise UndecodableVideoError(
            f"{name} does not declare its frame size: it is truncated or damaged; use the whole, original file"
        )
    if codec.width * codec.height > limits.max_pixels:
        raise ClipLimitError(
            f"{name} has frames of {codec.width}x{codec.height}, more than the limit of {limits.max_pixels} pixels; "
            "scale it down"
        )
    _read_only(container, chosen)
    if len(streams) == 1:
        return chosen, ()
    others = ", ".join(_described(s) for s in streams if s.index != chosen.index)
    return chosen, (f"several video streams: used {_described(chosen)}, ignored {others}",)


def _has_decoder(stream: VideoStream) -> bool:
    """Whether FFmpeg has a decoder for a stream, and it may be used."""
    # Streams without a decoder in FFmpeg have no codec context at all.
    return stream.codec_context is not None and stream.codec_context.codec.name in DECODERS


def _moving(container: InputContainer) -> list[VideoStream]:
    """The video streams that are not cover pictures, flagged as such or not."""
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    still = [s for s in streams if s.codec_context is not None and s.codec_context.codec.canonical_name in STILL]
    # A picture beside a video. Not every container tells the number of frames.
    covers = [s for s in still if s.frames == 1 or (not s.frames and len(still) < len(streams))]
    return [s for s in streams if s not in covers] if len(covers) < len(streams) else streams


def _kind(stream: Stream) -> str:
    is_cover = stream.type == "video" and stream.disposition & Disposition.attached_pic
    return "cover picture" if is_cover else stream.type


def hdr_warning(codec: VideoCodecContext) -> str | None:
    """A warning about videos of high dynamic range, whose colours are converted as if they were not."""
    name = HDR.get(codec.color_trc)
    if name is None:
        return None
    return f"the video is HDR ({name}) and is shown without tone mapping: colours look pale; convert it to SDR"


def open_stream(source: VideoSource, name: str, limits: ClipLimits, index: int) -> tuple[InputContainer, VideoStream]:
    """Open a source again, to read the stream that was chosen.

    Args:
        source: as it was opened before; a file object must be seekable.
        name: name of the source in messages.
        limits: limits on the video.
        index: of the stream.

    Raises:
        UndecodableVideoError: the stream is gone.
    """
    container = open_container(source, name, limits)
    streams = container.streams
    if index >= len(streams) or not isinstance(stream := streams[index], VideoStream):
        container.close()
        raise UndecodableVideoError(f"{name} changed while it was read; try again")
    _read_only(container, stream)
    return container, stream


def _read_only(container: InputContainer, chosen: VideoStream) -> None:
    for stream in container.streams:
        if stream.index != chosen.index:
            stream.discard = Discard.all


def _described(stream: VideoStream) -> str:
    codec = stream.codec_context
    size = f" ({codec.width}x{codec.height})" if codec is not None else " (no decoder)"
    return f"stream {stream.index}{size}"
