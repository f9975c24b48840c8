"""Messages of bytes, with file descriptors, over a pair of connected sockets."""

from __future__ import annotations

import array
import os
import select
import socket
import struct
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Self

MOST_BYTES = 16 * 1024**2
"""A longer message is refused: the other end may be under an attacker's control."""

MOST_FDS = 2

_LENGTH = struct.Struct("!IB")


class ChannelClosedError(OSError):
    """The process at the other end has ended."""


class Channel:
    """One end of the pair. For one thread.

    Args:
        connected: the socket; the channel closes it.
    """

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected

    @classmethod
    def of(cls, fd: int) -> Self:
        """The channel over a file descriptor that this process inherited."""
        return cls(socket.socket(fileno=fd))

    @classmethod
    def pair(cls) -> tuple[Self, socket.socket]:
        """A channel, and the other end of it."""
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        return cls(here), there

    def send(self, message: bytes, fds: Sequence[int] = ()) -> None:
        """Send a message, with at most `MOST_FDS` file descriptors.

        Raises:
            ChannelClosedError: the other end is closed.
        """
        head = _LENGTH.pack(len(message), len(fds))
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self._socket.settimeout(None)
        try:
            sent = self._socket.sendmsg([head, message], rights)
            self._socket.sendall((head + message)[sent:])
        except (BrokenPipeError, ConnectionResetError) as error:
            raise ChannelClosedError(str(error)) from error

    def ready(self, timeout: float) -> bool:
        """Whether a message comes, or the other end closes, within so many seconds."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(max(0.0, 1000 * timeout)))

    def receive(self, timeout: float | None = None, *, fds_allowed: bool = False) -> tuple[bytes, list[int]]:
        """Receive a message and its file descriptors.

        Args:
            timeout: seconds to wait for all of it; None waits for ever. After a timeout the channel is of no more use.
            fds_allowed: whether the other end may send file descriptors.

        Raises:
            ChannelClosedError: the other end is closed, or sends no valid messages.
            TimeoutError: the message did not come in time.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        self._wait(deadline)
        try:
            first, fds, _, _ = socket.recv_fds(self._socket, _LENGTH.size, MOST_FDS)
        except ConnectionResetError as error:
            raise ChannelClosedError(str(error)) from error
        head = first + self._exactly(_LENGTH.size - len(first), deadline)
        length, expected = _LENGTH.unpack(head)
        if length > MOST_BYTES or expected != len(fds) or (fds and not fds_allowed):
            for fd in fds:
                os.close(fd)
            raise ChannelClosedError(f"an invalid message of {length} bytes with {len(fds)} file descriptors")
        return self._exactly(length, deadline), fds

    def _exactly(self, count: int, deadline: float | None) -> bytes:
        found = bytearray()
        while len(found) < count:
            self._wait(deadline)
            try:
                part = self._socket.recv(min(count - len(found), 1024**2))
            except ConnectionResetError as error:
                raise ChannelClosedError(str(error)) from error
            if not part:
                raise ChannelClosedError("the other end is closed")
            found += part
        return bytes(found)

    def _wait(self, deadline: float | None) -> None:
        if deadline is None:
            self._socket.settimeout(None)
            return
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._socket.settimeout(left)

    def interrupt(self) -> None:
        """From any thread: make whoever uses the channel, at either end, find it closed."""
        with suppress(OSError):  # closed already
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close this end."""
        self._socket.close()
