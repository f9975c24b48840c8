"""Training clips that do not decode: logged, counted, and named if there are more than the recipe allows."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from torch import Tensor

from sefar_serve.errors import SefarError
from sefar_serve.lists import ListEntry

logger = logging.getLogger(__name__)

NAMED = 20
"""Most broken clips that an error names; the log names all of them."""


class BrokenClipsError(SefarError, RuntimeError):
    """More training clips failed to decode than the recipe allows; the message names them."""

    def __init__(self, message: str) -> None:
        # An error from a worker process carries the text of a whole traceback; the message is at its end.
        super().__init__(message.rpartition(f"{type(self).__name__}: ")[2].strip())


def shared_flags(count: int) -> Tensor:
    """Flags in memory that is shared with forked processes."""
    return torch.zeros(count, dtype=torch.bool).share_memory_()  # type: ignore[no-any-return, no-untyped-call]


class BrokenClips:
    """Counts the broken clips of a list, over this process and all workers forked from it.

    Args:
        entries: the clips.
        allowed: clips that may fail to decode; one at least must not.
    """

    def __init__(self, entries: Sequence[ListEntry], allowed: int) -> None:
        self._entries = entries
        self._allowed = allowed
        self._flags = shared_flags(len(entries))

    def report(self, index: int, error: Exception) -> None:
        """Count a clip, once.

        Raises:
            BrokenClipsError: more clips than allowed do not decode.
        """
        if not self._flags[index]:
            self._flags[index] = True
            logger.warning("clip skipped: %s", error)
        broken = self._flags.nonzero().flatten().tolist()
        if len(broken) > min(self._allowed, len(self._entries) - 1):
            names = ", ".join(self._entries[i].name for i in broken[:NAMED])
            more = f" and {len(broken) - NAMED} more" if len(broken) > NAMED else ""
            raise BrokenClipsError(
                f"{len(broken)} clips do not decode, data.max_broken allows {self._allowed}: {names}{more}; "
                f"last error: {error}; `sefar lists --root … --check` finds all of them"
            ) from error
