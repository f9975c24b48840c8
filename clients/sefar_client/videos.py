"""Videos as they are given to a client, and those that were refused."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from typing import BinaryIO

from sefar_client import notebook
from sefar_client.base import Shown

Video = str | PathLike[str] | bytes | bytearray | memoryview | BinaryIO
"""A path; an ``http(s)://`` URL of a host that the gateway fetches from; the bytes of a video; or an open file.

An open file is sent from its start, or from its current position if it cannot be rewound."""


@dataclass(frozen=True)
class Failure:
    """A video among others that was refused, or could not be read.

    Attributes:
        video: the video as it was given.
        error: the reason; use `raise failure.error` to raise it. From a gateway a `GatewayError`, or an `OSError` if
            the file cannot be read.
    """

    video: Video
    error: Exception

    def __repr__(self) -> str:
        given = self.video
        video = Shown(f"<{len(given)} bytes>") if isinstance(given, bytes | bytearray | memoryview) else given
        return f"Failure(video={video!r}, error={self.error!r})"

    def __str__(self) -> str:
        return str(self.error)

    def _repr_html_(self) -> str:
        return notebook.text(str(self), wrong=True)
