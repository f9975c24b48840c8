"""Videos given by URL, fetched with pinned addresses and limits on size and time, in separate threads."""

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
