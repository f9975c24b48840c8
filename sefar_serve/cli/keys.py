"""The commands `sefar keys …`: make, list and remove the API keys of a gateway."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sefar_serve.cli import console
from sefar_serve.keys import SCOPES, add_key, read_keys, remove_key

app = typer.Typer(no_args_is_help=True, help="Make, list and remove the API keys of a gateway.")

File = Annotated[
    Path, typer.Option("--file", envvar="SEFAR_KEYS_FILE", help="file of keys, the gateway's setting `keys_file`")
]
Name = Annotated[str, typer.Argument(help="name of the key, shown in the gateway's log")]


@app.command()
def add(
    name: Name,
    file: File,
    scopes: Annotated[
        str, typer.Option("--scopes", help=f"what the key may do, separated by commas: {', '.join(SCOPES)}")
    ] = "infer",
) -> None:
    """Make a key and print it, once. The file has only its hash; a running gateway accepts it within a second."""
    secret = add_key(file, name, [scope.strip() for scope in scopes.split(",")])
    console.err.print("The key is not stored; copy it now.", highlight=False)
    typer.echo(secret)


@app.command(name="list")
def list_(file: File) -> None:
    """List names and scopes."""
    for key in read_keys(file):
        typer.echo(f"{key.name}\t{','.join(scope for scope in SCOPES if scope in key.scopes)}")


@app.command()
def remove(name: Name, file: File) -> None:
    """Remove a key. A running gateway refuses it within a second."""
    remove_key(file, name)
