"""Which requests are served now, which wait and which are refused, fairly between API keys (or, without, addresses).

Requests are admitted before their bodies are read. Videos then take turns: the next is one of the key with the fewest
videos in progress, so that a key that sends thousands does not hold up the others.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass

from starlette.types import ASGIApp, Receive, Scope, Send

from sefar_serve.api.errors import response
from sefar_serve.api.prefix import path_below_prefix
from sefar_serve.engine import EngineOverloadedError
from sefar_serve.schemas.problem import problem_of

LONGEST_WAIT = 60
"""Seconds that a client is told to wait at most."""

_MEASURED = 64
"""Completed units from which the rate is measured."""


class Share:
    """A bounded number of units (requests, or videos), shared between keys.

    Args:
        most: maximum number of units.
        what: name of the units in messages.
        several: whether there may be several keys. One alone then leaves a quarter for others.
    """

    def __init__(self, most: int, what: str, *, several: bool = False) -> None:
        self._most = most
        self._what = what
        self._several = several
        self._held: Counter[str] = Counter()
        self._ended: deque[float] = deque(maxlen=_MEASURED)

    @property
    def total(self) -> int:
        """Units in progress or waiting."""
        return self._held.total()

    @property
    def seconds(self) -> int:
        """Whole seconds until those in progress and waiting will have ended, at the rate of the last ones."""
        if len(self._ended) < 2:
            return 1
        rate = (len(self._ended) - 1) / max(time.monotonic() - self._ended[0], 0.001)
        return min(LONGEST_WAIT, max(1, math.ceil(self.total / rate)))

    @contextmanager
    def taken(self, key: str, number: int = 1) -> Iterator[None]:
        """Take units until the end of the block.

        Raises:
            EngineOverloadedError: there are too many, or the key has more than its share.
        """
        if self.total + number > self._most:
            raise self._refusal(f"{self.total} {self._what} are in progress, of {self._most} at most")
        if (held := self._held[key]) and held + number > self._allowed(key):
            raise self._refusal(f"you have {held} {self._what} in progress, your share of {self._most}")
        self._held[key] += number
        try:
            yield
        finally:
            self._held[key] -= number
            if not self._held[key]:
                del self._held[key]
            self._ended.extend([time.monotonic()] * number)

    def _allowed(self, key: str) -> int:
        active = len(self._held.keys() | {key})
        if active > 1:
            return max(1, self._most // active)
        return max(1, 3 * self._most // 4) if self._several else self._most

    def _refusal(self, why: str) -> EngineOverloadedError:
        return EngineOverloadedError(f"{why}; try again later", retry_after=self.seconds)


@dataclass(eq=False)
class _Waiting:
    key: str
    weight: int
    granted: asyncio.Future[None]


class Turns:
    """Lets a number of videos be processed at the same time; the others wait for their key's turn.

    Args:
        at_once: maximum number of videos.
    """

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._running: Counter[str] = Counter()
        self._waiting: list[_Waiting] = []

    @asynccontextmanager
    async def turn(self, key: str, videos: int) -> AsyncIterator[None]:
        """Wait for a turn, and hold it until the end of the block."""
        one = _Waiting(key, min(videos, self._at_once), asyncio.get_running_loop().create_future())
        self._waiting.append(one)
        self._grant()
        try:
            await one.granted
        except asyncio.CancelledError:
            if one in self._waiting:
                self._waiting.remove(one)
            else:
                self._end(one)
            raise
        try:
            yield
        finally:
            self._end(one)

    def _end(self, one: _Waiting) -> None:
        self._running[one.key] -= one.weight
        if not self._running[one.key]:
            del self._running[one.key]
        self._grant()

    def _grant(self) -> None:
        while self._waiting:
            # The first of the key with the fewest. If there is no room for it, nobody overtakes it.
            one = min(self._waiting, key=lambda waiting: self._running[waiting.key])
            if self._running.total() + one.weight > self._at_once:
                return
            self._waiting.remove(one)
            self._running[one.key] += one.weight
            one.granted.set_result(None)


@dataclass(frozen=True)
class Admission:
    """The bounds that all requests share.

    Attributes:
        requests: requests in progress, from before their body is read until their answer is sent.
        videos: videos in progress or waiting.
        turns: the order of the videos.
    """

    requests: Share
    videos: Share
    turns: Turns

    @classmethod
    def of(cls, max_requests: int, max_decoding: int, *, several: bool) -> Admission:
        """Bounds for a number of requests and videos, fair between keys if there are several."""
        return cls(
            Share(max_requests, "requests", several=several),
            Share(max_decoding, "videos", several=several),
            Turns(max(1, max_decoding // 2)),
        )


class AdmissionMiddleware:
    """Answers 429, before reading the body, to requests beyond the bound. Only POST requests under /v1 count.

    Args:
        app: the application to wrap.
        requests: the bound.
        refused: called for each refused request.
    """

    def __init__(self, app: ASGIApp, requests: Share, refused: Callable[[], None]) -> None:
        self._app = app
        self._requests = requests
        self._refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        if scope["type"] != "http" or scope["method"] != "POST" or not path_below_prefix(scope).startswith("/v1/"):
            await self._app(scope, receive, send)
            return
        with ExitStack() as taken:
            try:
                taken.enter_context(self._requests.taken(key_of(scope)))
            except EngineOverloadedError as error:
                self._refused()
                await response(problem_of(error))(scope, receive, send)
                return
            await self._app(scope, receive, send)


def key_of(scope: Scope) -> str:
    """Who a request counts for: the name of its key; without keys, the client's address.

    Behind a proxy that does not pass on addresses, all clients are one.
    """
    name: str | None = scope.get("state", {}).get("key")
    client = scope.get("client")
    return name or (client[0] if client else "")
