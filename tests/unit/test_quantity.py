"""Numbers of things in messages."""

from __future__ import annotations

from sefar_serve.quantity import quantity


def test_only_one_is_singular() -> None:
    assert [quantity(number, "clip") for number in (0, 1, 2)] == ["0 clips", "1 clip", "2 clips"]
