"""Fixtures of the end-to-end tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e_gateway import GatewayProcess, start_gateway
from playwright.sync_api import Browser, sync_playwright

CHROMIUM = Path("/usr/bin/chromium")


@pytest.fixture(scope="session")
def running_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A real gateway process with the shipped model and captioner, shared by the session."""
    gateway = start_gateway(tmp_path_factory.mktemp("gateway") / "log", env={"SEFAR_CAPTIONER": "auto"})
    yield gateway
    gateway.process.terminate()
    assert gateway.process.wait(30) == 0, gateway.log.read_text()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A real browser; tests that need it are marked `browser`, and skipped where it is not installed."""
    if not CHROMIUM.is_file():
        pytest.skip(f"no Chromium at {CHROMIUM}; to run tests in a browser: apt-get install chromium")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield chromium
        chromium.close()
