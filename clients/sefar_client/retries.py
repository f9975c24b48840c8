"""When and after how long a request is sent again: one policy for both clients."""

from __future__ import annotations

import random
import time

from sefar_client.errors import GatewayError, GatewayUnreachableError

FIRST_PAUSE = 0.25
LONGEST_PAUSE = 15.0
"""Seconds; the upper bound of the random pauses doubles from the first to the longest."""


class Retries:
    """The retry policy of one client.

    Args:
        patience: seconds after which a request is not sent again; with 0 each is sent once.
    """

    def __init__(self, patience: float) -> None:
        self.patience = patience
        self.answered = False
        """Whether the gateway has ever answered. If not, a wrong address is more likely than a restart."""


class Tries:
    """The attempts of one request.

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
        """Whether an earlier attempt may have succeeded: its answer was lost, or came from a proxy."""

    def pause_after(self, error: GatewayError | GatewayUnreachableError) -> float:
        """Seconds to wait before the next attempt: what the gateway asks for, plus a random pause.

        The random pause ("full jitter") keeps clients that were refused together from retrying together.

        Raises:
            GatewayError, GatewayUnreachableError: the same error, if another attempt is pointless or too late.
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
