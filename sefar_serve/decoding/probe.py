"""A tiny video, to check that decoding works and to load whatever decoding loads late."""

from __future__ import annotations

import io
from functools import cache

import av
import numpy as np

SIDE = 64


@cache
def probe_video() -> bytes:
    """An MP4 of two grey frames."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width = stream.height = SIDE
        for _ in range(2):
            picture = np.full((SIDE, SIDE, 3), 128, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode())
    return file.getvalue()
