"""What the Python API accepts as a video, and how it becomes the input of a recognizer."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeGuard

from sefar_client import Video
from sefar_client.uploads import checked, name_of
from sefar_serve.clip import NotAVideoError, VideoSource
from sefar_serve.clip.source import source_name
from sefar_serve.fetch import RemoteClip, UrlFetcher, UrlNotAllowedError
from sefar_serve.recognition import ClipInput

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|data:")


@dataclass(frozen=True, eq=False)
class GivenVideo:
    """One video.

    Attributes:
        name: the last part of its path. Results have this name, as through the HTTP client.
        clip: reads the video. Error messages have its full path.
    """

    name: str
    clip: ClipInput


def is_one(given: Video | Iterable[Video]) -> TypeGuard[Video]:
    """Tell one video from an iterable of videos.

    Raises:
        TypeError: it is neither.
    """
    if isinstance(given, str | os.PathLike | bytes | bytearray | memoryview) or hasattr(given, "read"):
        return True
    if isinstance(given, AsyncIterable):
        raise TypeError("an asynchronous iterable of videos is not supported; pass an ordinary iterable")
    if not isinstance(given, Iterable):
        raise TypeError(
            f"a video must be a path, bytes or a file opened with mode 'rb', or an iterable of these, not "
            f"{type(given).__name__}"
        )
    return False


def read_video(given: Video, fetcher: UrlFetcher) -> GivenVideo:
    """Turn one video into what a recognizer takes. Files are opened later, by the decoding thread.

    Args:
        given: what the caller passed.
        fetcher: fetches URLs.

    Raises:
        NotAVideoError: the path is empty.
        TypeError: it is not a video.
        UrlNotAllowedError: it is a URL that is not fetched.
    """
    if isinstance(given, str) and _URL.match(given):
        return _at_url(given, fetcher)
    video = checked(given, "a video")
    if video == "":
        raise NotAVideoError("the path of the video is empty")
    if isinstance(video, str | os.PathLike):
        return GivenVideo(Path(video).name, ClipInput(os.fspath(video), lambda: video))
    if isinstance(video, bytes):
        return GivenVideo("video", ClipInput(source_name(video), lambda: video))
    return GivenVideo(name_of(video) or "video", ClipInput(source_name(video), lambda: _content(video)))


def _content(file: BinaryIO) -> VideoSource:
    """An open file, or the remaining bytes of one that cannot be rewound, such as a pipe."""
    return file if hasattr(file, "seekable") and file.seekable() else file.read()


def _at_url(url: str, fetcher: UrlFetcher) -> GivenVideo:
    scheme = url.partition(":")[0].lower()
    if scheme == "data":
        raise UrlNotAllowedError("data URLs are not supported here; decode the base64 and pass the bytes")
    if scheme == "sefar":
        raise UrlNotAllowedError(f"{url} is a clip of a gateway and not known here; pass the video itself")
    if scheme not in ("http", "https"):
        raise UrlNotAllowedError(
            f"{scheme}:// is not supported; download the video, or open it with a library such as fsspec and pass the "
            "open file"
        )
    address = url.partition("?")[0]
    host = re.split(r"[/?#]", url.partition("://")[2])[0].rpartition("@")[2]
    try:
        fetcher.allowed(url)
    except UrlNotAllowedError as error:
        raise UrlNotAllowedError(
            f"{host} is not an allowed host; download the video and pass its path, or set `url_hosts` "
            f"(SEFAR_URL_HOSTS) to {host!r}"
        ) from error
    return GivenVideo(Path(address).name, RemoteClip(address, lambda: fetcher.fetch(url), url=url))
