"""The circuit breaker, by a clock of the test's own."""

from __future__ import annotations

import pytest

from sefar_serve.engine import EngineUnavailableError
from sefar_serve.engine.triton.breaker import CircuitBreaker


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_opens_after_failures_in_a_row_only() -> None:
    breaker = CircuitBreaker(3, 2.0, Clock())
    for outcome in (breaker.failed, breaker.failed, breaker.succeeded, breaker.failed, breaker.failed):
        outcome()
        breaker.admit()
    breaker.failed()
    assert breaker.open
    with pytest.raises(EngineUnavailableError, match=r"failed 3 times in a row; it is tried again in 2\.0 s") as told:
        breaker.admit()
    assert told.value.retry_after == 2


def test_lets_one_through_after_a_pause_and_closes_by_its_answer() -> None:
    clock = Clock()
    breaker = CircuitBreaker(1, 2.0, clock)
    breaker.failed()
    clock.now += 2
    breaker.admit()
    with pytest.raises(EngineUnavailableError):
        breaker.admit()
    clock.now += 2  # the one let through never came back: another has its turn
    breaker.admit()
    breaker.succeeded()
    breaker.admit()
    assert not breaker.open
