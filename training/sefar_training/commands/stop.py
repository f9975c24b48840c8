"""What a command says when Ctrl-C stops it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

from sefar_serve.cli import console

JOINTS_KEPT = "Joints found so far are kept. To continue: the same command again"
"""Said when nothing else is kept."""

INTERRUPTED = 130
"""Exit status of a command that Ctrl-C stopped, as shells report it."""


@contextmanager
def stoppable(kept: Callable[[], str] = lambda: JOINTS_KEPT) -> Iterator[None]:
    """When Ctrl-C stops the block, say what is kept and how to continue, and exit.

    Args:
        kept: says it, when asked.
    """
    try:
        yield
    except KeyboardInterrupt as stop:
        console.err.print(f"stopped. {kept()}", highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(INTERRUPTED) from stop
