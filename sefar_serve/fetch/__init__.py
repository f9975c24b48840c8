"""Videos given by URL: pinned addresses, caps, and threads of their own."""

from sefar_serve.fetch.fetcher import UrlError, UrlFetcher, UrlFetchError, UrlNotAllowedError, UrlTimeoutError
from sefar_serve.fetch.pool import RemoteClip, RemoteVideos

__all__ = [
    "RemoteClip",
    "RemoteVideos",
    "UrlError",
    "UrlFetchError",
    "UrlFetcher",
    "UrlNotAllowedError",
    "UrlTimeoutError",
]
