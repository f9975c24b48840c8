"""When a request is sent again, and after how long: one policy for both clients."""

from __future__ import annotations

import random
import time

from sefar_client.errors import GatewayError, GatewayUnreachableError

FIRST_PAUSE = 0.25
LONGEST_PAUSE = 15.0
"""Seconds; the upper ends of the random pauses double from the first to the longest."""


class Retries:
    """The policy of one client.

    Args:
        patience: seconds after which a request is given up; 0 sends each once.
    """

    def __init__(self, patience: float) -> None:
        self.patience = patience
        self.answered = False
        """Whether the gateway ever did: one that never did is likelier a wrong address than a restart."""


class Tries:
    """The tries of one request.

    Args:
        retries: the client's policy.
        repeatable: whether the request can be sent twice.
    """

    def __init__(self, retries: Retries, *, repeatable: bool) -> None:
        self._retries = retries
        self._repeatable = repeatable
        self._began = time.monotonic()
        self._failed = 0
        self.may_be_done = False
        """Whether an earlier try may have been carried out: its answer was lost, or a proxy's."""

    def pause_after(self, error: GatewayError | GatewayUnreachableError) -> float:
        """Seconds to wait before the next try: what the gateway asks for, and a random part on top.

        The random part ("full jitter") keeps clients that were refused together from coming back together.

        Raises:
            GatewayError, GatewayUnreachableError: the same error, where another try is not worth it or not in time.
        """
        worth = error.is_passing if isinstance(error, GatewayError) else self._retries.answered
        asked = error.retry_after or 0.0 if isinstance(error, GatewayError) else 0.0
        pause = asked + random.uniform(0.0, min(LONGEST_PAUSE, FIRST_PAUSE * 2**self._failed))
        spent = time.monotonic() - self._began
        if not (worth and self._repeatable and spent + pause <= self._retries.patience):
            raise error
        self._failed += 1
        if isinstance(error, GatewayUnreachableError) or error.code == "unknown":
            self.may_be_done = True
        return pause
