"""Starts the gateway as users do: `sefar serve` in its own process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from sefar_client import Client


@dataclass
class GatewayProcess:
    """A running `sefar serve`."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path


def start_gateway(log: Path, *flags: str, port: int = 0, env: dict[str, str] | None = None) -> GatewayProcess:
    """Start `sefar serve` and wait until it is ready; without captions unless `env` says otherwise.

    The language model takes seconds to load, and most tests do not need it. Port 0 picks a free one.
    """
    if not port:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "sefar_serve", "serve", "--port", str(port), *flags],
            stdout=output,
            stderr=output,
            env=os.environ | {"SEFAR_CAPTIONER": "none", "SEFAR_DECODE_IN": "auto"} | (env or {}),
        )
    url = f"http://127.0.0.1:{port}"
    with Client(url) as client:
        for _ in range(1800):  # a limit for hangs only: importing torch takes a minute on a busy machine
            if client.ready():
                return GatewayProcess(url, process, log)
            if process.poll() is not None:
                break
            time.sleep(0.1)
    process.kill()
    process.wait()
    raise AssertionError(log.read_text())
