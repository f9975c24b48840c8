"""What may be given as a video in Python, and how it becomes the input of a recognizer."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeGuard

from sefar_client import Video
from sefar_client.uploads import checked, name_of
from sefar_serve.clip import VideoSource
from sefar_serve.clip.source import source_name
from sefar_serve.fetch import RemoteClip, UrlFetcher, UrlNotAllowedError
from sefar_serve.recognition import ClipInput

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|data:")


@dataclass(frozen=True, eq=False)
class GivenVideo:
    """One video.

    Attributes:
        name: in its result: the last part of its path, as the HTTP client sends it.
        clip: reads it; messages call it by its whole path.
    """

    name: str
    clip: ClipInput


def is_one(given: Video | Iterable[Video]) -> TypeGuard[Video]:
    """Whether this is one video, and not several.

    Raises:
        TypeError: it is neither.
    """
    if isinstance(given, str | os.PathLike | bytes | bytearray | memoryview) or hasattr(given, "read"):
        return True
    if isinstance(given, AsyncIterable):
        raise TypeError("an asynchronous iterable of videos is not read here; give an ordinary one")
    if not isinstance(given, Iterable):
        raise TypeError(
            f"a video is a path, bytes or a file opened with mode 'rb', or an iterable of these, not "
            f"{type(given).__name__}"
        )
    return False


def read_video(given: Video, fetcher: UrlFetcher) -> GivenVideo:
    """One video as a recognizer takes it; files are opened when it is their turn.

    Args:
        given: by the caller.
        fetcher: of URLs.

    Raises:
        TypeError: it is no video.
        UrlNotAllowedError: a URL that is not fetched here.
    """
    if isinstance(given, str) and _URL.match(given):
        return _at_url(given, fetcher)
    video = checked(given, "a video")
    if isinstance(video, str | os.PathLike):
        return GivenVideo(Path(video).name, ClipInput(os.fspath(video), lambda: video))
    if isinstance(video, bytes):
        return GivenVideo("video", ClipInput(source_name(video), lambda: video))
    return GivenVideo(name_of(video) or "video", ClipInput(source_name(video), lambda: _content(video)))


def _content(file: BinaryIO) -> VideoSource:
    """An open file; of one that cannot be rewound, as a pipe, what is left of it."""
    return file if hasattr(file, "seekable") and file.seekable() else file.read()


def _at_url(url: str, fetcher: UrlFetcher) -> GivenVideo:
    scheme = url.partition(":")[0].lower()
    if scheme == "data":
        raise UrlNotAllowedError("a data URL is not read here; decode its base64 and give the bytes")
    if scheme == "sefar":
        raise UrlNotAllowedError(f"{url} names a clip on a gateway, and none are kept here; give the video again")
    if scheme not in ("http", "https"):
        raise UrlNotAllowedError(
            f"{scheme}:// is not read here; download the video, or open it with a library such as fsspec and give the "
            "open file"
        )
    address = url.partition("?")[0]
    host = re.split(r"[/?#]", url.partition("://")[2])[0].rpartition("@")[2]
    try:
        fetcher.allowed(url)
    except UrlNotAllowedError as error:
        raise UrlNotAllowedError(
            f"videos are not fetched from {host}; download the video and give its path, or allow the host: "
            f"load(url_hosts={host!r})"
        ) from error
    return GivenVideo(Path(address).name, RemoteClip(address, lambda: fetcher.fetch(url), url=url))
