"""Clips that are missing or do not decode: counted, and named if there are more than the recipe allows."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from sefar_serve.errors import SefarError
from sefar_serve.lists import ListEntry

logger = logging.getLogger(__name__)

NAMED = 20
"""Most clips that an error names; the log names all of them."""


class MissingClipsError(SefarError, ValueError):
    """Clips of a list do not exist; the message names them."""


def check_files(entries: Sequence[ListEntry], list_file: Path, allowed: int = 0) -> None:
    """Check that all clips exist, before hours are spent on the first ones.

    Args:
        entries: the clips.
        list_file: their list, for messages.
        allowed: clips that may be missing.

    Raises:
        MissingClipsError: more are.
    """
    missing = [entry for entry in entries if not entry.path.is_file()]
    if len(missing) > allowed:
        if len(missing) > NAMED:
            logger.error("clips of %s that do not exist: %s", list_file, ", ".join(entry.name for entry in missing))
        tolerated = f" (data.max_broken allows {allowed})" if allowed else ""
        raise MissingClipsError(
            f"{len(missing)} of {len(entries)} clips of {list_file} do not exist{tolerated}: {_named(missing)}; the "
            f"first was looked for at {missing[0].path}. Set the folder of the clips (--root, in recipes data.root) or "
            "replace path prefixes (--remap, in recipes data.remap)"
        )


def _named(entries: Sequence[ListEntry]) -> str:
    more = f" and {len(entries) - NAMED} more" if len(entries) > NAMED else ""
    return ", ".join(entry.name for entry in entries[:NAMED]) + more


class BrokenClipsError(SefarError, RuntimeError):
    """More training clips failed to decode than the recipe allows; the message names them."""

    def __init__(self, message: str) -> None:
        # An error from a worker process carries the text of a whole traceback; the message is at its end.
        super().__init__(message.rpartition(f"{type(self).__name__}: ")[2].strip())


def shared_flags(count: int) -> Tensor:
    """Flags in memory that is shared with forked processes."""
    return torch.zeros(count, dtype=torch.bool).share_memory_()  # type: ignore[no-any-return, no-untyped-call]


class BrokenClips:
    """Counts the clips of a list that do not decode, over this process and all workers forked from it.

    Args:
        entries: the clips.
        allowed: clips that may fail to decode; one at least must not.
    """

    def __init__(self, entries: Sequence[ListEntry], allowed: int) -> None:
        self._entries = entries
        self._allowed = allowed
        self._flags = shared_flags(len(entries))

    def report(self, errors: Mapping[int, Exception]) -> None:
        """Count clips, each once.

        Args:
            errors: why each clip, by its number, cannot be used.

        Raises:
            BrokenClipsError: more clips than allowed do not decode.
        """
        for index, error in errors.items():
            if not self._flags[index]:
                self._flags[index] = True
                logger.warning("clip skipped: %s", error)
        broken = [self._entries[i] for i in self._flags.nonzero().flatten().tolist()]
        if len(broken) > min(self._allowed, len(self._entries) - 1):
            last = list(errors.values())[-1]
            count = "1 clip does" if len(broken) == 1 else f"{len(broken)} clips do"
            raise BrokenClipsError(
                f"{count} not decode, data.max_broken allows {self._allowed}: {_named(broken)}; "
                f"last error: {last}; `sefar lists --root … --check` finds all of them"
            ) from last
