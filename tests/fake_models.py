"""Models of the Python API over the fake engine and generator, made by functions that worker processes can import."""

from __future__ import annotations

from typing import Any

from sefar_serve.engine import FakeEngine
from sefar_serve.language import FakeGenerator
from sefar_serve.model import Model
from sefar_serve.settings import Settings


def fake_engine(_: Settings) -> FakeEngine:
    return FakeEngine()


def fake_generator(_: Settings) -> FakeGenerator:
    return FakeGenerator()


def fake_model(
    engine: FakeEngine | None = None,
    generator: FakeGenerator | None = None,
    *,
    decode_threads: int = 2,
    **settings: Any,
) -> Model:
    """A model that answers as the fake engine does; nothing of it runs before the first call."""
    return Model(
        Settings(decode_threads=decode_threads, **settings),
        engine=fake_engine if engine is None else lambda _: engine,
        generator=fake_generator if generator is None else lambda _: generator,
    )
