"""Encode frames as H.264 MP4; the same frames give the same bytes."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from sefar_serve.atomic import atomic_file
from sefar_training.synthgym.render import RenderedClip


def encode_clip(clip: RenderedClip, path: str | os.PathLike[str]) -> Path:
    """Encode a rendered clip.

    Args:
        clip: the clip.
        path: the MP4 file; written atomically.
    """
    return encode_frames(clip.frames, clip.fps, clip.crf, path)


def encode_frames(frames: NDArray[np.uint8], fps: Fraction, crf: int, path: str | os.PathLike[str]) -> Path:
    """Encode frames as H.264 MP4.

    Args:
        frames: uint8 (T, H, W, 3) RGB, H and W even.
        fps: frames per second.
        crf: x264 constant rate factor, 0 to 51.
        path: the MP4 file; written atomically.
    """
    path = Path(path)
    # One thread, because clips are encoded in parallel processes. Without cpu-independent, x264 chooses routines by
    # processor, and their rounding differs.
    options = {"crf": str(crf), "preset": "veryfast", "threads": "1", "x264-params": "cpu-independent=1"}
    with atomic_file(path) as new, av.open(str(new), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path
