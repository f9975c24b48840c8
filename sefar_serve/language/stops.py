"""Stop texts in a streamed answer: text that may be the beginning of a stop text is held back."""

from __future__ import annotations

from collections.abc import Sequence


class StopTexts:
    """Cuts an answer at the first of several texts.

    Args:
        stops: the texts; empty ones are ignored.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = [stop for stop in stops if stop]
        self._held = ""

    def feed(self, text: str) -> tuple[str, bool]:
        """Take the next part of the answer.

        Returns:
            The text that can be passed on now, and whether a stop text was found, which ends the answer.
        """
        self._held += text
        found = [at for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            given, self._held = self._held[: min(found)], ""
            return given, True
        keep = max((self._overlap(stop) for stop in self._stops), default=0)
        cut = len(self._held) - keep
        given, self._held = self._held[:cut], self._held[cut:]
        return given, False

    def rest(self) -> str:
        """The text that was held back; call it when the answer has ended without a stop text."""
        given, self._held = self._held, ""
        return given

    def _overlap(self, stop: str) -> int:
        """How many characters at the end of the held text may be the beginning of a stop text."""
        longest = min(len(stop) - 1, len(self._held))
        return next((n for n in range(longest, 0, -1) if self._held.endswith(stop[:n])), 0)
