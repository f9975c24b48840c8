"""Videos from URLs, only from hosts that the operator allows.

A server that fetches any URL can be made to reach internal machines (server-side request forgery). So the host must be
on the list; its addresses must be public unless the operator listed a port or an address; the connection goes to the
address that was checked; every redirect is checked again; and size and time are limited.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
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
"""Maximum number of redirects followed."""

SPOOL_BYTES = 8 * 1024 * 1024
"""Videos up to this size stay in memory; larger ones go to a temporary file as they arrive."""

_PORTS = {"http": 80, "https": 443}


class UrlError(SefarError):
    """A video could not be fetched from its URL."""

    param = "input"


class UrlNotAllowedError(UrlError, ValueError):
    """The operator does not allow this URL."""

    status = 403
    code = "url_not_allowed"


class UrlFetchError(UrlError):
    """The host of the URL does not deliver the video."""

    status = 502
    code = "url_unreachable"


class UrlTimeoutError(UrlError):
    """The host of the URL took too long to deliver the video."""

    status = 504
    code = "url_timeout"


class UrlFetcher:
    """Fetches videos from the hosts on a list.

    Args:
        hosts: ``host`` allows ports 80 and 443 at public addresses; ``host:port`` or an IP address allows any
            address.
        max_bytes: maximum size of a video in bytes.
        timeout: seconds for the whole download, including redirects.
    """

    def __init__(self, hosts: Sequence[str], *, max_bytes: int, timeout: float) -> None:
        self._hosts = frozenset(host.strip().lower() for host in hosts)
        self._max_bytes = max_bytes
        self._timeout = timeout

    def allowed(self, url: str) -> None:
        """Check a URL before any work is done for it.

        Raises:
            UrlNotAllowedError: its scheme or host is not allowed, or it has a user name or password.
        """
        self._checked(url)

    def fetch(self, url: str) -> IO[bytes]:
        """Fetch a video; blocking.

        Returns:
            A temporary file, positioned at its start; the caller closes it.

        Raises:
            UrlNotAllowedError: the URL, or one that it redirects to, is not allowed.
            UrlFetchError: the host does not answer, or does not deliver the video.
            UrlTimeoutError: it took too long. Only the DNS lookup may take longer: it has the system's timeout.
            ClipLimitError: the video is too large.
        """
        with (
            _Deadline(self._timeout) as deadline,
            httpx.Client(trust_env=False, follow_redirects=False) as client,
        ):
            # Messages name the URL that the client gave, without its query: the query of either may be a signature,
            # and the client must not learn where its URL redirects to.
            name = shown(url)
            for number in range(REDIRECTS + 1):
                try:
                    target, trusted = self._checked(url)
                    address = self._address(target, trusted)
                except UrlError as error:
                    if number == 0:
                        raise
                    raise type(error)(f"{name} redirects to a URL that cannot be fetched or is not allowed") from error
                try:
                    found = self._receive(client, self._request(client, target, address, deadline), name, deadline)
                except httpx.HTTPError as error:
                    if deadline.over or isinstance(error, httpx.TimeoutException):
                        raise self._too_slow(name) from error
                    raise UrlFetchError(f"{name} cannot be fetched: {error}") from error
                if not isinstance(found, str):
                    return found
                try:
                    url = str(target.join(found))
                except httpx.InvalidURL as error:
                    raise UrlFetchError(f"{name} redirects to an invalid URL") from error
        raise UrlFetchError(f"{name} redirects more than {REDIRECTS} times; give the final URL")

    def _checked(self, url: str) -> tuple[httpx.URL, bool]:
        """Parse a URL; also return whether the operator listed its port or address explicitly."""
        try:
            target = httpx.URL(url)
        except httpx.InvalidURL as error:
            # Here and below, do not quote the URL: a password in it would end up in the logs.
            raise UrlNotAllowedError(f"the URL is malformed ({error}); give http(s)://host/path") from error
        if target.scheme not in _PORTS or not target.host or target.userinfo:
            raise UrlNotAllowedError(
                f"a URL with scheme {target.scheme or 'none'} and host {target.host or 'none'} is not allowed; give "
                "http(s)://host/path, without a user name or password"
            )
        host, port = target.host.lower(), target.port or _PORTS[target.scheme]
        bracketed = f"[{host}]" if ":" in host else host
        named = f"{bracketed}:{port}" in self._hosts or (_is_address(host) and {host, bracketed} & self._hosts)
        if not named and not (host in self._hosts and target.port in (None, 80, 443)):
            raise UrlNotAllowedError(
                f"this server does not fetch videos from {bracketed}:{port}; send the video as a file or a data URL, "
                "or ask the operator to allow the host (SEFAR_URL_HOSTS)"
            )
        return target, bool(named)

    @staticmethod
    def _address(target: httpx.URL, trusted: bool) -> str:
        """The address to connect to, looked up once: a second lookup could give another address."""
        port = target.port or _PORTS[target.scheme]
        try:
            found = socket.getaddrinfo(target.host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise UrlFetchError(f"the host {target.host} cannot be resolved: {error}") from error
        addresses = [str(entry[4][0]) for entry in found]
        for address in addresses:
            if not trusted and not _is_public(address):
                raise UrlNotAllowedError(
                    f"{target.host} resolves to {address}, which is not a public address; the operator can allow it "
                    f"with its port (SEFAR_URL_HOSTS={target.host}:{port})"
                )
        return addresses[0]

    @staticmethod
    def _request(client: httpx.Client, target: httpx.URL, address: str, deadline: _Deadline) -> httpx.Request:
        return client.build_request(
            "GET",
            target.copy_with(host=address),
            # Videos do not compress any further, and a small response could unpack into a very large one.
            headers={"host": target.netloc.decode("ascii"), "accept-encoding": "identity"},
            extensions={"sni_hostname": target.host, "trace": deadline.watch},
            timeout=deadline.left,
        )

    def _receive(self, client: httpx.Client, request: httpx.Request, url: str, deadline: _Deadline) -> IO[bytes] | str:
        """The video, or the location that the response redirects to."""
        response = client.send(request, stream=True)
        try:
            if response.has_redirect_location:
                return response.headers["location"]
            if response.status_code != httpx.codes.OK:
                raise UrlFetchError(f"{url} returned {response.status_code} {response.reason_phrase}")
            if (coding := response.headers.get("content-encoding", "identity").strip().lower()) not in ("", "identity"):
                raise UrlFetchError(f"{url} came compressed ({coding}), although it was requested without compression")
            declared = response.headers.get("content-length", "0")
            if declared.isdigit() and int(declared) > self._max_bytes:
                raise self._too_large(url)
            return self._spooled(response, url, deadline)
        finally:
            response.close()

    def _spooled(self, response: httpx.Response, url: str, deadline: _Deadline) -> IO[bytes]:
        spool = tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES)  # noqa: SIM115 - the caller closes it
        try:
            # Take chunks as they come: if they were collected to a size, one byte per second would pass every timeout.
            for chunk in response.iter_raw():
                spool.write(chunk)
                if spool.tell() > self._max_bytes:
                    raise self._too_large(url)
                if deadline.over:
                    raise self._too_slow(url)
            # A video without a declared length ends where its connection ends, even if the deadline closed that.
            if deadline.over:
                raise self._too_slow(url)
        except BaseException:
            spool.close()
            raise
        spool.seek(0)
        return spool

    def _too_slow(self, url: str) -> UrlTimeoutError:
        return UrlTimeoutError(f"{url} did not arrive within {self._timeout:g} s; try again, or send the video itself")

    def _too_large(self, url: str) -> ClipLimitError:
        return ClipLimitError(f"{url} has more than {self._max_bytes} bytes; send a shorter or smaller video")


class _Deadline:
    """Closes the connection when time is up.

    A timeout of httpx limits each single wait for data, so a host that sends a byte now and then never
    exceeds it.

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
        """Seconds left, always more than 0, which would mean not to wait at all."""
        return max(0.001, self._end - time.monotonic())

    @property
    def over(self) -> bool:
        """Whether time is up."""
        return time.monotonic() >= self._end

    def watch(self, event: str, info: Mapping[str, Any]) -> None:
        """Remember the connection in use; httpx calls this while it connects ("trace")."""
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            with self._lock:
                self._socket = info["return_value"].get_extra_info("socket")
            if self.over:
                self._cut()

    def _cut(self) -> None:
        with self._lock:
            if self._socket is None:
                return
            # Shut down the plain socket: after a TLS socket's own shutdown, data would be read without decryption.
            # If it is closed already, there is nothing to do.
            with contextlib.suppress(OSError):
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def __enter__(self) -> _Deadline:
        self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()


def shown(url: str) -> str:
    """A URL as messages and logs show it: without query and fragment, which may hold a signature or a token."""
    return re.split("[?#]", url, maxsplit=1)[0]


def _is_public(address: str) -> bool:
    """Whether an address is a public address of a single machine."""
    found = ipaddress.ip_address(address.partition("%")[0])
    return found.is_global and not found.is_multicast


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
