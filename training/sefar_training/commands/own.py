"""`sefar train --data`: a model from a folder of a user's videos."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
from rich.markup import escape

from sefar_serve.cli import console
from sefar_serve.logs import configure_logging
from sefar_serve.metadata import Stream
from sefar_serve.optional import needs_extra

from .stop import stoppable
from .videos import YOUR_VIDEOS, Videos, run_folder

OWN: dict[str, Any] = {"rich_help_panel": YOUR_VIDEOS}
"""Options of `sefar train` that belong to it."""


def train_on(
    place: Path,
    out: Path | None,
    videos: Videos,
    stream: Stream | None,
    minutes: float,
    overrides: Sequence[str],
    resume: bool,
) -> None:
    """Look at the videos, choose a model, train, export and report; see `sefar train`."""
    with needs_extra("train"):
        from sefar_training.commands.start_console import print_prepared
        from sefar_training.own import Options, check_run, run_own
    configure_logging("warning", "plain")
    folder = run_folder(place, out)
    check_run(folder, resume)

    def say(line: str) -> None:
        console.out.print(escape(line), highlight=False, soft_wrap=True)

    kept = f"What was found is kept in {folder}. To continue: the same command with --resume"
    with stoppable(lambda: kept):
        prepared = videos.prepare(place, folder)
        print_prepared(prepared, None)
        if not prepared.trainable:
            raise typer.Exit(1)
        options = Options(folder, stream, minutes, tuple(overrides), resume)
        made = run_own(prepared, options, say)
    say("")
    say(f"model:  {made.facts.onnx}")
    say(f"report: {made.report}")
    say(f"card:   {made.card}")
    say(f"serve:  {made.facts.serve}")
    say("Python:")
    for line in made.facts.python.splitlines():
        say(f"  {line}" if line else "")
