"""A factory of gateways over the fake engine; each test passes only the settings it needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from fastapi.testclient import TestClient

from sefar_serve.api import create_app
from sefar_serve.engine import FakeEngine
from sefar_serve.language import FakeGenerator
from sefar_serve.settings import Settings

Gateway = Callable[..., TestClient]


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    """`gateway(engine=…, generator=…, **settings)` returns a client of a started application."""
    with ExitStack() as running:

        def make(
            engine: FakeEngine | None = None, generator: FakeGenerator | None = None, **settings: Any
        ) -> TestClient:
            app = create_app(Settings(decode_threads=2, **settings), engine or FakeEngine(), generator)
            return running.enter_context(TestClient(app, raise_server_exceptions=False))

        yield make
