"""From a video file to the frames a model sees: exact decoding, and SeFAR's dual-level sampling.

The one place where this is done: training, serving and batch extraction import it.
"""

from sefar_serve.clip.container import ClipLimits, VideoSource
from sefar_serve.clip.errors import (
    ClipError,
    ClipLimitError,
    ClipSpanError,
    EmptyVideoError,
    NotAVideoError,
    NoVideoStreamError,
    UndecodableVideoError,
)
from sefar_serve.clip.load import Clip, load_clip, load_windows, span_indices
from sefar_serve.clip.sampling import Layout, Sampling, sample_indices
from sefar_serve.clip.video import Frames, Video, central_square

__all__ = [
    "Clip",
    "ClipError",
    "ClipLimitError",
    "ClipLimits",
    "ClipSpanError",
    "EmptyVideoError",
    "Frames",
    "Layout",
    "NoVideoStreamError",
    "NotAVideoError",
    "Sampling",
    "UndecodableVideoError",
    "Video",
    "VideoSource",
    "central_square",
    "load_clip",
    "load_windows",
    "sample_indices",
    "span_indices",
]
