"""The circuit breaker, with a fake clock."""

from __future__ import annotations

import pytest

from sefar_serve.engine import EngineUnavailableError
from sefar_serve.engine.triton.breaker import CircuitBreaker


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_opens_only_after_consecutive_failures() -> None:
    breaker = CircuitBreaker(3, 2.0, Clock())
    for outcome in (breaker.failed, breaker.failed, breaker.succeeded, breaker.failed, breaker.failed):
        outcome()
        breaker.admit()
    breaker.failed()
    assert breaker.open
    with pytest.raises(EngineUnavailableError, match=r"failed 3 times in a row; next attempt in 2\.0 s") as refused:
        breaker.admit()
    assert refused.value.retry_after == 2


def test_admits_one_caller_after_a_pause_and_closes_if_it_succeeds() -> None:
    clock = Clock()
    breaker = CircuitBreaker(1, 2.0, clock)
    breaker.failed()
    clock.now += 2
    breaker.admit()
    with pytest.raises(EngineUnavailableError):
        breaker.admit()
    clock.now += 2  # the admitted caller never reported back: the next one is admitted
    breaker.admit()
    breaker.succeeded()
    breaker.admit()
    assert not breaker.open
