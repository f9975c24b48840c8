"""The command `sefar`: one module a group of commands."""

from sefar_serve.cli.app import app, main

__all__ = ["app", "main"]
