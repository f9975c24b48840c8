from collections.abc import Sequence
from typing import IO


class UrlNotAllowedError(Exception):
    code = "url_not_allowed"


class UrlFetchError(Exception):
    code = "url_unreachable"


class UrlTimeoutError(Exception):
    code = "url_timeout"


class UrlFetcher:
    def __init__(self, hosts: Sequence[str], *, max_bytes: int, timeout: float) -> None: ...
    def allowed(self, url: str) -> None:
        raise UrlNotAllowedError("SEFAR_URL_HOSTS")

    def fetch(self, url: str) -> IO[bytes]:
        raise UrlNotAllowedError("SEFAR_URL_HOSTS")
