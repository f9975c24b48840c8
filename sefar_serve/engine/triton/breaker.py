"""A circuit breaker: after several failures in a row, stop asking for a while instead of letting everyone wait."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from sefar_serve.engine.errors import EngineUnavailableError


class CircuitBreaker:
    """Counts failures of a remote server that says nothing; answers of any kind are no failures.

    Args:
        failures: in a row that open it, at least 1.
        seconds: it stays open; then one caller is let through, and its outcome decides.
        clock: seconds, monotonic.
    """

    def __init__(self, failures: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = failures
        self._seconds = seconds
        self._clock = clock
        self._failures = 0
        self._open_until = -math.inf

    @property
    def open(self) -> bool:
        """Whether callers are turned away, but for one now and then."""
        return self._failures >= self._limit

    def admit(self) -> None:
        """Let the caller through.

        Raises:
            EngineUnavailableError: it is open.
        """
        if not self.open:
            return
        remaining = self._open_until - self._clock()
        if remaining > 0:
            raise EngineUnavailableError(
                f"the model server failed {self._failures} times in a row; it is tried again in {remaining:.1f} s",
                retry_after=max(1, math.ceil(remaining)),
            )
        # Until this caller's outcome is known the others wait for another turn, even if it never comes back.
        self._open_until = self._clock() + self._seconds

    def succeeded(self) -> None:
        """Note an answer."""
        self._failures = 0

    def failed(self) -> None:
        """Note that there was none."""
        self._failures += 1
        if self.open:
            self._open_until = self._clock() + self._seconds
