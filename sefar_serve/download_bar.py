"""The progress bar of a download."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn
from rich.progress import Progress as Bar

from sefar_serve.wheels import Progress


@contextmanager
def download_bar(what: str, console: Console | None = None) -> Iterator[Progress]:
    """A bar on the terminal. It appears with the first call, and never where stderr is no terminal.

    Args:
        what: what is downloaded, e.g. ``pose models``.
        console: to draw on; None: stderr.
    """
    console = console or Console(stderr=True)
    columns = (TextColumn(f"downloading {what}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    bar = Bar(*columns, console=console, transient=True, disable=not console.is_terminal)

    def progress(done: int, total: int) -> None:
        if not bar.task_ids:
            bar.start()
            bar.add_task("", total=total)
        bar.update(bar.task_ids[0], completed=done)

    try:
        yield progress
    finally:
        bar.stop()
