"""Counts what decoded videos hold in memory, so that more videos are decoded only while there is room."""

from __future__ import annotations

import gc
import threading
import weakref

COLLECT_SECONDS = 1.0
"""Seconds after which a wait collects garbage."""


class Room:
    """A limit on the memory of all decoded clips together. Thread-safe.

    Clips are counted from when they are decoded until they are freed, whoever holds them. A video's size is known only
    once it is decoded, so the limit may be exceeded by the videos that are being decoded when it is reached.

    Args:
        most: bytes from which on `wait` waits.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0
        self._freed = threading.Condition(threading.RLock())  # re-entered if garbage is collected while it is held

    @property
    def held(self) -> int:
        """Bytes that decoded clips hold now."""
        return self._held

    def wait(self) -> None:
        """Wait until there is room; call it in the thread that is about to decode."""
        with self._freed:
            while not self._freed.wait_for(lambda: self._held < self._most, timeout=COLLECT_SECONDS):
                # An error's traceback may hold clips in a cycle, and while nothing happens, nothing collects it.
                gc.collect()

    def hold(self, clip: object, size: int) -> None:
        """Count a clip until it is freed.

        Args:
            clip: can be referred to weakly.
            size: bytes that it holds.
        """
        with self._freed:
            self._held += size
        weakref.finalize(clip, self._free, size).atexit = False

    def _free(self, size: int) -> None:
        with self._freed:
            self._held -= size
            self._freed.notify_all()
