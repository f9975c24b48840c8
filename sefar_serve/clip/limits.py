"""Limits on the size of a video, checked before it is decoded."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class ClipLimits:
    """Limits on one video; exceeding one raises `ClipLimitError`.

    Attributes:
        max_bytes: size of the file in bytes.
        max_pixels: width times height of a frame, both as stored and as scaled.
        max_duration: length in seconds.
        max_frames: number of frames.
        max_decoded_pixels: frames that must be decoded times their pixels: how much work the video may be.
    """

    max_bytes: int = 512 * 1024 * 1024
    max_pixels: int = 8192 * 4320
    max_duration: float = 4 * 3600.0
    max_frames: int = 1_000_000
    max_decoded_pixels: float = math.inf

    def __post_init__(self) -> None:
        for name in ("max_bytes", "max_pixels", "max_duration", "max_frames", "max_decoded_pixels"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} {getattr(self, name)} must be positive")
