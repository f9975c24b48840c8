"""Fixtures every test may use: the folder of real clips, and artefacts made once a session."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real clips and official files; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("SEFAR_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real clips at {folder}; set SEFAR_SHARED_DATA to the folder that holds them")
    return folder


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


@pytest.fixture(scope="session")
def dark_clip() -> bytes:
    """24 dark frames; the fake engine answers class 0."""
    return encode_grey_clip([20] * 24)


@pytest.fixture(scope="session")
def bright_clip() -> bytes:
    """24 bright frames; the fake engine answers class 2."""
    return encode_grey_clip([230] * 24)
