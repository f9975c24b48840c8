"""Videos from URLs: only of hosts that the operator allows, and never by way of them from anywhere else.

A server that fetches what strangers name can be sent to the machines behind it. So the host must be on the list, its
addresses must be public ones unless the operator named a port or an address, the connection goes to the very address
that was checked, every redirect is checked again, and size and time are bounded.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import IO, Any

import httpx

from sefar_serve.clip import ClipLimitError
from sefar_serve.errors import SefarError

REDIRECTS = 3
"""Most redirects followed."""

SPOOL_BYTES = 8 * 1024 * 1024
"""What arrives up to this size stays in memory; more goes to a temporary file as it comes."""

_PORTS = {"http": 80, "https": 443}


class UrlError(SefarError):
    """A video that could not be had from its URL."""

    param = "input"


class UrlNotAllowedError(UrlError, ValueError):
    """The operator does not allow this URL."""

    status = 403
    code = "url_not_allowed"


class UrlFetchError(UrlError):
    """The host does not give the video."""

    status = 502
    code = "url_unreachable"


class UrlTimeoutError(UrlError):
    """The host took too long."""

    status = 504
    code = "url_timeout"


class UrlFetcher:
    """Fetches videos from the hosts on a list.

    Args:
        hosts: ``host``, at the usual ports and public addresses; or ``host:port`` or a literal address,
            wherever that leads.
        max_bytes: largest video.
        timeout: seconds for the whole of it, redirects included.
    """

    def __init__(self, hosts: Sequence[str], *, max_bytes: int, timeout: float) -> None:
        self._hosts = frozenset(host.strip().lower() for host in hosts)
        self._max_bytes = max_bytes
        self._timeout = timeout

    def allowed(self, url: str) -> None:
        """Refuse a URL before any work is done for it.

        Raises:
            UrlNotAllowedError: of another scheme or host, or with a password in it.
        """
        self._checked(url)

    def fetch(self, url: str) -> IO[bytes]:
        """Fetch a video; blocking.

        Returns:
            A temporary file, read from its start; the caller closes it.

        Raises:
            UrlNotAllowedError: it leads where the operator does not allow.
            UrlFetchError: the host does not answer, or not with a video.
            UrlTimeoutError: it took too long; only looking up its name may take longer, as the system has it.
            ClipLimitError: it is too large.
        """
        with (
            _Deadline(self._timeout) as deadline,
            httpx.Client(trust_env=False, follow_redirects=False) as client,
        ):
            for _ in range(REDIRECTS + 1):
                target, trusted = self._checked(url)
                address = self._address(target, trusted)
                try:
                    found = self._receive(client, self._request(client, target, address, deadline), url, deadline)
                except httpx.HTTPError as error:
                    if deadline.over or isinstance(error, httpx.TimeoutException):
                        raise self._too_slow(url) from error
                    raise UrlFetchError(f"{url} cannot be fetched: {error}") from error
                if not isinstance(found, str):
                    return found
                url = str(target.join(found))
        raise UrlFetchError(f"{url} redirects more than {REDIRECTS} times")

    def _checked(self, url: str) -> tuple[httpx.URL, bool]:
        """The URL taken apart, and whether the operator named its very port or address."""
        try:
            target = httpx.URL(url)
        except httpx.InvalidURL as error:
            # Here and below not the URL itself: a password in it would end in the logs.
            raise UrlNotAllowedError(f"this is not a URL: {error}") from error
        if target.scheme not in _PORTS or not target.host or target.userinfo:
            raise UrlNotAllowedError(
                f"a URL of scheme {target.scheme or 'none'} and host {target.host or 'none'} is not allowed: give "
                "http(s)://host/path, without a password"
            )
        host, port = target.host.lower(), target.port or _PORTS[target.scheme]
        bracketed = f"[{host}]" if ":" in host else host
        named = f"{bracketed}:{port}" in self._hosts or (_is_address(host) and {host, bracketed} & self._hosts)
        if not named and not (host in self._hosts and target.port in (None, 80, 443)):
            raise UrlNotAllowedError(
                f"this server does not fetch videos from {bracketed}:{port}; send the video as a file or a data URL, "
                "or have the operator allow the host (SEFAR_URL_HOSTS)"
            )
        return target, bool(named)

    @staticmethod
    def _address(target: httpx.URL, trusted: bool) -> str:
        """The address to connect to, looked up once: a name may lead elsewhere the next time."""
        port = target.port or _PORTS[target.scheme]
        try:
            found = socket.getaddrinfo(target.host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise UrlFetchError(f"there is no host {target.host}: {error}") from error
        addresses = [str(entry[4][0]) for entry in found]
        for address in addresses:
            if not trusted and not _is_public(address):
                raise UrlNotAllowedError(
                    f"{target.host} leads to {address}, which is not a public address; the operator may allow it by "
                    f"its port (SEFAR_URL_HOSTS={target.host}:{port})"
                )
        return addresses[0]

    @staticmethod
    def _request(client: httpx.Client, target: httpx.URL, address: str, deadline: _Deadline) -> httpx.Request:
        return client.build_request(
            "GET",
            target.copy_with(host=address),
            # Videos do not get smaller by another compression, and a small answer could unpack into a very large one.
            headers={"host": target.netloc.decode("ascii"), "accept-encoding": "identity"},
            extensions={"sni_hostname": target.host, "trace": deadline.watch},
            timeout=deadline.left,
        )

    def _receive(self, client: httpx.Client, request: httpx.Request, url: str, deadline: _Deadline) -> IO[bytes] | str:
        """The video, or where it is to be found."""
        response = client.send(request, stream=True)
        try:
            if response.has_redirect_location:
                return response.headers["location"]
            if response.status_code != httpx.codes.OK:
                raise UrlFetchError(f"{url} answers {response.status_code} {response.reason_phrase}")
            if (coding := response.headers.get("content-encoding", "identity").strip().lower()) not in ("", "identity"):
                raise UrlFetchError(f"{url} comes compressed ({coding}), though it was asked for as it is")
            declared = response.headers.get("content-length", "0")
            if declared.isdigit() and int(declared) > self._max_bytes:
                raise self._too_large(url)
            return self._spooled(response, url, deadline)
        finally:
            response.close()

    def _spooled(self, response: httpx.Response, url: str, deadline: _Deadline) -> IO[bytes]:
        spool = tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES)  # noqa: SIM115 - the caller closes it
        try:
            # As they come: gathered to a size, a byte a second would pass every timeout.
            for chunk in response.iter_raw():
                spool.write(chunk)
                if spool.tell() > self._max_bytes:
                    raise self._too_large(url)
                if deadline.over:
                    raise self._too_slow(url)
            # A video without a declared length ends where its connection does, also where the deadline cut it.
            if deadline.over:
                raise self._too_slow(url)
        except BaseException:
            spool.close()
            raise
        spool.seek(0)
        return spool

    def _too_slow(self, url: str) -> UrlTimeoutError:
        return UrlTimeoutError(f"{url} did not come within {self._timeout:g} s")

    def _too_large(self, url: str) -> ClipLimitError:
        return ClipLimitError(f"{url} has more than {self._max_bytes} bytes; send a shorter or smaller video")


class _Deadline:
    """Cuts the connection when time is up.

    A timeout of httpx bounds each wait for something to arrive, and a host that sends a byte now and then
    passes every one of them.

    Args:
        seconds: from now.
    """

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True

    @property
    def left(self) -> float:
        """Seconds, never none: 0 would mean not to wait at all."""
        return max(0.001, self._end - time.monotonic())

    @property
    def over(self) -> bool:
        """Whether time is up."""
        return time.monotonic() >= self._end

    def watch(self, event: str, info: Mapping[str, Any]) -> None:
        """Note the connection that is in use; httpx tells of it as it is made ("trace")."""
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            with self._lock:
                self._socket = info["return_value"].get_extra_info("socket")
            if self.over:
                self._cut()

    def _cut(self) -> None:
        with self._lock:
            if self._socket is None:
                return
            # The plain socket's, as a TLS one's own shutdown would let what comes next be read without decryption;
            # one that is closed by now has nothing left to cut.
            with contextlib.suppress(OSError):
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def __enter__(self) -> _Deadline:
        self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()


def _is_public(address: str) -> bool:
    """Whether an address is one of the internet's, for a single machine."""
    found = ipaddress.ip_address(address.partition("%")[0])
    return found.is_global and not found.is_multicast


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
