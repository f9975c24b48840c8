"""Small H.264 files whose brightness tells which frame a picture is, whole and damaged."""

from __future__ import annotations

import io
from collections.abc import Collection
from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def encode(path: Path, frames: int = 24, brightness: int = 0, *, step: int = 4, all_keys: bool = False) -> Path:
    """A 64x48 file whose brightness rises with time, the index in front."""
    options = {"crf": "10"} | ({"g": "1"} if all_keys else {})
    with av.open(path, "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(25), options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(frames):
            picture = np.full((48, 64, 3), brightness + step * i, np.uint8)
            picture[:, :32] += 40
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def cut(path: Path, to: Path, first: int, past: int) -> Path:
    """Copy the frames [first, past) of a file of key frames into a file of their own, without encoding them again."""
    with av.open(path) as source, av.open(to, "w") as target:
        stream = source.streams.video[0]
        copied = target.add_stream_from_template(stream)
        packets = [packet for packet in source.demux(stream) if packet.dts is not None][first:past]
        begin = packets[0].pts
        for packet in packets:
            packet.pts, packet.dts = packet.pts - begin, packet.pts - begin
            packet.stream = copied
            target.mux(packet)
    return to


def damage(path: Path, numbers: Collection[int]) -> Path:
    """Overwrite frames of a file of key frames, so that these do not decode and the others do."""
    buffer = io.BytesIO(path.read_bytes())
    with av.open(buffer) as source, av.open(path, "w") as target:
        stream = source.streams.video[0]
        copied = target.add_stream_from_template(stream)
        number = 0
        for packet in source.demux(stream):
            if packet.dts is None:
                continue
            if number in numbers:
                packet.update(bytes(packet.size))
            packet.stream = copied
            target.mux(packet)
            number += 1
    return path
