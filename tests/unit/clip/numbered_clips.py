"""Videos made in memory in which every picture shows its number, so that a test can tell which frame it got."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import numpy as np
from av.packet import Packet
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

COLUMNS, ROWS = 4, 3
"""The number in binary, one block per bit, most significant first: 12 bits."""


def picture(number: int, width: int, height: int) -> NDArray[np.uint8]:
    """The picture with this number, uint8 (height,width,3)."""
    bits = np.array([number >> b & 1 for b in reversed(range(COLUMNS * ROWS))], np.uint8).reshape(ROWS, COLUMNS)
    rows = np.arange(height) * ROWS // height
    columns = np.arange(width) * COLUMNS // width
    grey = 40 + 170 * bits[np.ix_(rows, columns)]
    # A moving texture gives the encoder something to predict.
    texture = (np.arange(width)[None, :] * 3 + np.arange(height)[:, None] * 5 + number * 7) % 23
    return np.repeat((grey + texture).astype(np.uint8)[..., None], 3, axis=2)


def _turned(number: int, width: int, height: int, rotation: int) -> NDArray[np.uint8]:
    upright = (height, width) if rotation % 180 else (width, height)
    return np.ascontiguousarray(np.rot90(picture(number, *upright), -rotation // 90))


def numbers_of(pixels: NDArray[np.uint8]) -> list[int]:
    """The number that each picture of (N,h,w,3) shows."""
    height, width = pixels.shape[1:3]
    found = np.zeros(len(pixels), np.int64)
    for row in range(ROWS):
        for column in range(COLUMNS):
            block = pixels[
                :,
                (4 * row + 1) * height // (4 * ROWS) : (4 * row + 3) * height // (4 * ROWS),
                (4 * column + 1) * width // (4 * COLUMNS) : (4 * column + 3) * width // (4 * COLUMNS),
            ]
            found = 2 * found + (block.mean(axis=(1, 2, 3)) > 136)
    return found.tolist()


def encode(
    count: int,
    codec: str = "libx264",
    container: str = "mp4",
    *,
    width: int = 96,
    height: int = 72,
    rate: int = 25,
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    mux_options: dict[str, str] | None = None,
    pts: Sequence[int] | None = None,
    aspect: Fraction | None = None,
    rotation: int = 0,
    audio_seconds: float = 0.0,
    sizes: Sequence[tuple[int, int]] = (),
) -> bytes:
    """Encode pictures 0 to count - 1.

    Args:
        count: number of frames; may be 0.
        codec: FFmpeg's name of an encoder.
        container: FFmpeg's name of a muxer.
        width: pixels.
        height: pixels.
        rate: frames a second.
        pix_fmt: of the encoded frames.
        options: of the encoder.
        mux_options: of the muxer.
        pts: of each frame, in 1/1000 s; evenly spaced by default.
        aspect: of a pixel.
        rotation: degrees counter-clockwise by which a player is told to turn the picture; it is stored
            turned the other way, as by a camera held sideways, so that players show it upright.
        audio_seconds: length of a silent track.
        sizes: of further video streams with the same pictures.
    """
    with TemporaryDirectory() as folder:  # some muxers read back what they wrote
        path = Path(folder, "clip")
        with av.open(path, "w", format=container, container_options=mux_options or {}) as out:
            streams = []
            for w, h in ((width, height), *sizes):
                stream = out.add_stream(codec, rate=rate, options=dict(options or {}))
                stream.width, stream.height, stream.pix_fmt = w, h, pix_fmt
                if pts is not None:
                    stream.codec_context.time_base = Fraction(1, 1000)
                if aspect is not None:
                    stream.codec_context.sample_aspect_ratio = aspect
                if rotation:
                    stream.set_display_rotation(rotation)
                streams.append(stream)
            sound = out.add_stream("aac", rate=8000, layout="mono") if audio_seconds else None
            for number in range(count):
                for stream in streams:
                    frame = av.VideoFrame.from_ndarray(
                        _turned(number, stream.width, stream.height, rotation), format="rgb24"
                    )
                    if pts is not None:
                        frame.pts, frame.time_base = pts[number], Fraction(1, 1000)
                    out.mux(stream.encode(frame))
            if sound is not None:
                silence = av.AudioFrame.from_ndarray(
                    np.zeros((1, int(8000 * audio_seconds)), np.float32), format="fltp", layout="mono"
                )
                silence.sample_rate, silence.pts = 8000, 0
                out.mux(sound.encode(silence))
                out.mux(sound.encode())
            for stream in streams:
                out.mux(stream.encode())
        return path.read_bytes()


def decode_in_turn(data: bytes, size: tuple[int, int] | None = None, stream: int | None = None) -> NDArray[np.uint8]:
    """All frames in the order of the decoder's output, uint8 (N,h,w,3), scaled to (width, height)."""
    reformatter = VideoReformatter()
    with av.open(io.BytesIO(data)) as container:
        chosen = container.streams[stream] if stream is not None else container.streams.best("video")
        width, height = size if size is not None else (None, None)
        return np.stack(
            [
                reformatter.reformat(frame, width=width, height=height, format="rgb24").to_ndarray()
                for frame in container.decode(chosen)
            ]
        )


def remux(data: bytes, container: str, change: Callable[[int, Packet], bool]) -> bytes:
    """Copy the packets for which `change(number, packet)`, which may alter them, is true."""
    out = io.BytesIO()
    with av.open(io.BytesIO(data)) as source, av.open(out, "w", format=container) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(video=0)):
            if change(number, packet) and packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    return out.getvalue()
