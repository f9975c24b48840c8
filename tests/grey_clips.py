"""Videos made in memory in which every frame has one known level of grey."""

from __future__ import annotations

import io
from collections.abc import Sequence

import av
import numpy as np


def encode_grey_clip(levels: Sequence[int], *, size: int = 64, rate: int = 25) -> bytes:
    """An H.264 MP4 whose i-th frame is plain grey of level i."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "10"})
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        for level in levels:
            picture = np.full((size, size, 3), level, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()
