"""Decoding and sampling: from a path, bytes or a file object to the frames that a model takes.

Training, serving and batch extraction all use this package, so they see the same pixels.
"""

from sefar_serve.clip.errors import (
    ClipError,
    ClipLimitError,
    ClipSpanError,
    EmptyVideoError,
    NotAVideoError,
    NoVideoStreamError,
    UndecodableVideoError,
)
from sefar_serve.clip.limits import ClipLimits
from sefar_serve.clip.load import Clip, load_clip, load_windows, span_indices
from sefar_serve.clip.picture import central_square
from sefar_serve.clip.sampled import Sampled
from sefar_serve.clip.source import VIDEO_SUFFIXES, VideoSource
from sefar_serve.clip.video import Frames, Video
from sefar_serve.sampling import Layout, Sampling, interleaved_segments, sample_indices

__all__ = [
    "VIDEO_SUFFIXES",
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
    "Sampled",
    "Sampling",
    "UndecodableVideoError",
    "Video",
    "VideoSource",
    "central_square",
    "interleaved_segments",
    "load_clip",
    "load_windows",
    "sample_indices",
    "span_indices",
]
