"""An estimator that harms the process it runs in. What it does depends on how bright a plain grey frame is."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from sefar_serve.pose import Detection, Estimators, Picture, PoseSetupError, Region
from sefar_serve.pose.fake import FakeEstimator

CRASHES, KILLS_ITSELF, HANGS, SLEEPS, ATTACKS, EATS, FAILS = (40, 65, 90, 115, 140, 165, 190)
"""Grey levels."""

NAP = 0.1
"""Seconds for each frame."""


class FaultyEstimator(FakeEstimator):
    """Finds nobody in grey frames, and does harm in those of the levels above."""

    def detect(self, picture: Picture, within: Region) -> list[Detection]:
        pixels = picture.crop(within, 16)
        for level, do in _HARM.items():
            if pixels.std() < 4 and abs(float(pixels.mean()) - level) < 8:
                do()
        return super().detect(picture, within)


def faulty_estimators() -> Estimators:
    return Estimators(FaultyEstimator)


def _hang() -> None:
    while True:
        time.sleep(60)


def _attack() -> None:
    """Raise an error that names what was possible."""
    parent = os.getppid()
    tries: dict[str, Callable[[], object]] = {
        "connect": lambda: socket.socket().connect(("127.0.0.1", 9)),
        "datagram": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", 9)),
        "write a file": lambda: Path("attack.txt").write_text("x"),
        "write a file in memory": lambda: os.write(os.memfd_create("attack"), b"x"),
        "read a file": lambda: Path("/etc/hostname").read_bytes(),
        "read the parent's environment": lambda: Path(f"/proc/{parent}/environ").read_bytes(),
        "delete a file": lambda: Path("/etc/hostname").unlink(),
        "start a program": lambda: subprocess.run([sys.executable, "-V"], check=False),
        "fork": _fork,
        "signal the parent": lambda: os.kill(parent, 0),
        "signal all": lambda: os.kill(0, 0),
        "limit the parent": lambda: resource.prlimit(parent, resource.RLIMIT_CORE, (0, 0)),
        "slow down the parent": lambda: os.setpriority(
            os.PRIO_PROCESS, parent, os.getpriority(os.PRIO_PROCESS, parent)
        ),
    }
    done = []
    for name, attempt in tries.items():
        try:
            attempt()
        except OSError:
            continue
        done.append(name)
    secrets = sorted(name for name in os.environ if "KEY" in name)
    raise PoseSetupError(f"possible: {', '.join(done) or 'nothing'}; keys: {', '.join(secrets) or 'none'}")


def _fork() -> None:
    if os.fork() == 0:
        os._exit(0)


def _fail() -> None:
    raise ZeroDivisionError("no such number")


_HARM: dict[int, Callable[[], object]] = {
    CRASHES: lambda: os.kill(os.getpid(), signal.SIGSEGV),
    KILLS_ITSELF: lambda: os.kill(os.getpid(), signal.SIGKILL),
    HANGS: _hang,
    SLEEPS: lambda: time.sleep(NAP),
    ATTACKS: _attack,
    EATS: lambda: bytearray(2 * 1024**3),
    FAILS: _fail,
}
