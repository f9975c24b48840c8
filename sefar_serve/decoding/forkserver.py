"""Starts decode processes: a small process that has loaded what they need, and forks.

`multiprocessing` has a fork server too, but runs the main program's file in each new process, and leaves them the
environment, which may hold keys. This one is for one thread at a time at each end.
"""

from __future__ import annotations

import gc
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress

from sefar_serve.clip import Sampling, load_clip
from sefar_serve.decoding.channel import Channel, ChannelClosedError
from sefar_serve.decoding.confine import end_with_parent
from sefar_serve.decoding.errors import DecodersUnavailableError
from sefar_serve.decoding.probe import probe_video
from sefar_serve.decoding.worker import run
from sefar_serve.pose import Estimators

START_SECONDS = 60.0
"""Seconds that the fork server, or a process, may take to start."""

_BOOT = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[2]); "
    "from sefar_serve.decoding.forkserver import main; main(int(sys.argv[1]))"
)

_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "XDG_CACHE_HOME", "SEFAR_POSE_HOME")
"""Environment variables that decode processes get; others may hold keys."""


class ForkServer:
    """The process that starts decode processes. The methods may be called from any thread.

    Args:
        estimators: for the processes, each of which loads its own.
        whole_environment: give the processes all environment variables; file systems take credentials from there.

    Raises:
        DecodersUnavailableError: it cannot be started.
    """

    def __init__(self, estimators: Estimators, *, whole_environment: bool) -> None:
        self._lock = threading.Lock()
        self._broken = False
        self._channel, there = Channel.pair()
        kept = {name: value for name, value in os.environ.items() if whole_environment or name in _KEPT}
        # Decoding uses one thread in each process; libraries would start more when they are loaded.
        kept |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        with there:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _BOOT, str(there.fileno()), json.dumps(sys.path)],
                env=kept,
                pass_fds=[there.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                # Ctrl-C on a terminal is for the gateway alone. The session stays: Linux shares the CPU among sessions.
                process_group=0,
            )
        try:
            self._channel.send(pickle.dumps(estimators))
            self._channel.receive(START_SECONDS)
        except (OSError, TimeoutError) as error:
            self.close()
            raise DecodersUnavailableError(
                "the server of decode processes does not start; its error is in the log above. Check that there is "
                "enough memory"
            ) from error

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return not self._broken

    def fork(self, connected: socket.socket) -> int:
        """Start a process and return its id.

        Args:
            connected: its end of the channel.

        Raises:
            ChannelClosedError: the server has ended.
        """
        with self._lock:
            return self._asked(b"", [connected.fileno()])

    def end(self, pid: int) -> int | None:
        """Kill a process unless it has ended, and return its exit status; minus the signal's number if one ended it.

        Returns:
            None if it is not known, because the server has ended; the kernel then ends the process.
        """
        with self._lock:
            try:
                return self._asked(b"%d" % pid)
            except ChannelClosedError:
                return None

    def _asked(self, message: bytes, fds: Sequence[int] = ()) -> int:
        try:
            self._channel.send(message, fds)
            return int(self._channel.receive(START_SECONDS)[0])
        except (OSError, TimeoutError) as error:
            self._broken = True
            raise ChannelClosedError("the server of decode processes has ended") from error

    def close(self) -> None:
        """End it and all its processes."""
        with self._lock:
            self._channel.close()
            try:
                self._process.wait(START_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def main(fd: int) -> None:
    """Fork a process for each message with a file descriptor; end the process that any other message names."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the parent decides when accepted work ends
    channel = Channel.of(fd)
    children: set[int] = set()
    with suppress(ChannelClosedError):
        estimators = pickle.loads(channel.receive()[0])
        # Decoding once loads modules that are loaded late. Processes share the memory of all of them.
        load_clip(probe_video(), Sampling((1,)), resize=64, size=64)
        gc.collect()
        gc.freeze()
        channel.send(b"ready")
        while True:
            message, fds = channel.receive(fds_allowed=True)
            if fds:
                child = _fork(channel, fds[0], estimators)
                children.add(child)
                channel.send(b"%d" % child)
            else:
                children.remove(int(message))
                channel.send(b"%d" % _end(int(message)))
    for child in children:
        _end(child)


def _fork(channel: Channel, fd: int, estimators: Estimators) -> int:
    server = os.getpid()
    child = os.fork()
    if child:
        os.close(fd)
        return child
    status = 1
    try:
        channel.close()
        end_with_parent()
        if os.getppid() == server:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            run(Channel.of(fd), estimators)
            status = 0
    except ChannelClosedError:
        status = 0
    except BaseException:  # whatever it is, this process must not go on as the server
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)


def _end(child: int) -> int:
    os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
