"""How the gateway starts, and its errors if the API keys are probably misconfigured."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
from pathlib import Path

from e2e_gateway import start_gateway

SEFAR = [sys.executable, "-m", "sefar_serve"]


def test_the_clients_key_variable_alone_is_an_error() -> None:
    environment = os.environ | {"SEFAR_API_KEY": "secret", "SEFAR_CAPTIONER": "none"}
    ended = subprocess.run(
        [*SEFAR, "serve", "--port", "0"], env=environment, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 1
    assert "SEFAR_API_KEYS" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_with_both_variables_the_command_line_uses_the_clients(tmp_path: Path, dark_clip: bytes) -> None:
    clip = tmp_path / "dark.mp4"
    clip.write_bytes(dark_clip)
    keys = {"SEFAR_API_KEYS": "secret", "SEFAR_API_KEY": "secret"}
    gateway = start_gateway(tmp_path / "log", env=keys)
    try:
        done = subprocess.run(
            [*SEFAR, "classify", str(clip), "--url", gateway.url],
            env=os.environ | {"SEFAR_API_KEY": "secret"},
            capture_output=True,
            text=True,
            timeout=60,
        )
    finally:
        gateway.process.terminate()
        gateway.process.wait(30)
    assert done.returncode == 0, done.stderr


def test_an_idle_connection_is_closed_after_keep_alive(tmp_path: Path) -> None:
    gateway = start_gateway(tmp_path / "log", "--keep-alive", "1")
    connection = http.client.HTTPConnection(gateway.url.removeprefix("http://"), timeout=60)
    try:
        for _ in range(2):
            connection.request("GET", "/healthz")
            assert connection.getresponse().read()
        assert connection.sock is not None  # both requests used one connection
        assert connection.sock.recv(1) == b""  # the gateway closed it
    finally:
        connection.close()
        gateway.process.terminate()
        gateway.process.wait(30)
