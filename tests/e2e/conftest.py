"""Fixtures of the end-to-end tests."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from e2e_gateway import GatewayProcess, start_gateway


@pytest.fixture(scope="session")
def running_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A real gateway process with the shipped model and captioner, shared by the session."""
    gateway = start_gateway(tmp_path_factory.mktemp("gateway") / "log", env={"SEFAR_CAPTIONER": "auto"})
    yield gateway
    gateway.process.terminate()
    assert gateway.process.wait(30) == -signal.SIGTERM, gateway.log.read_text()  # uvicorn exits by signal, once done
