"""A circuit breaker: after several failures in a row, refuse requests for a while instead of letting them wait."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from sefar_serve.engine.errors import EngineUnavailableError


class CircuitBreaker:
    """Counts requests to a remote server that got no answer; an answer of any kind, even an error, resets the count.

    Args:
        failures: failures in a row that open the breaker, at least 1.
        seconds: how long it stays open; then one caller is admitted, and its outcome decides.
        clock: returns seconds, monotonic.
    """

    def __init__(self, failures: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = failures
        self._seconds = seconds
        self._clock = clock
        self._failures = 0
        self._open_until = -math.inf

    @property
    def open(self) -> bool:
        """Whether callers are refused, except for one every now and then."""
        return self._failures >= self._limit

    def admit(self) -> None:
        """Admit the caller.

        Raises:
            EngineUnavailableError: it is open.
        """
        if not self.open:
            return
        remaining = self._open_until - self._clock()
        if remaining > 0:
            raise EngineUnavailableError(
                f"the model server failed {self._failures} times in a row; next attempt in {remaining:.1f} s",
                retry_after=max(1, math.ceil(remaining)),
            )
        # Refuse other callers until this one's outcome is known; if it never reports back, admit another later.
        self._open_until = self._clock() + self._seconds

    def succeeded(self) -> None:
        """Record an answer."""
        self._failures = 0

    def failed(self) -> None:
        """Record that there was no answer."""
        self._failures += 1
        if self.open:
            self._open_until = self._clock() + self._seconds
