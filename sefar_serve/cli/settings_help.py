"""The help of `sefar serve`, made from the settings class, in the look of the other commands' help."""

from __future__ import annotations

import typing
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from rich.markup import escape
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table

from sefar_serve.cli import console
from sefar_serve.settings import PREFIX, Settings, flag_of

_GROUPS = {
    "model": "Model",
    "triton_url": "Triton",
    "captioner": "Captions and answers",
    "url_hosts": "Videos by URL and clip id",
    "jobs_dir": "Batch jobs",
    "host": "HTTP",
    "max_batch": "Batches, queues and threads",
    "max_body_bytes": "Limits of a request",
    "log_level": "Log",
}
"""Title of each panel, by the first setting in it."""

_SECONDS = frozenset(
    {
        "triton_timeout",
        "triton_probe",
        "url_timeout",
        "keep_alive",
        "max_duration",
        "request_timeout",
        "shutdown_grace",
    }
)

_NAMES = {str: "TEXT", int: "NUMBER", float: "NUMBER", Path: "PATH", SecretStr: "SECRET"}


def print_help() -> None:
    """Print every setting with its flag, its environment variable and its default, in groups."""
    console.out.print()
    console.out.print(" [yellow]Usage:[/] [bold]sefar serve \\[OPTIONS][/]", highlight=False)
    summary, _, more = (Settings.__doc__ or "").partition("\n\n")
    for text in (summary, " ".join(more.split())):
        console.out.print(Padding(escape(text), (1, 1, 0, 1)), highlight=False)
    console.out.print()
    for title, names in _grouped().items():
        table = Table.grid(padding=(0, 2, 0, 0))
        for name in names:
            field = Settings.model_fields[name]
            value = f"[bold yellow]{escape(_value(name, field.annotation))}[/]"
            table.add_row(f"[bold cyan]{flag_of(name)}[/]", value, _text(name, field))
        console.out.print(Panel(table, title=title, title_align="left", border_style="dim"))


def _grouped() -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name in Settings.model_fields:
        if name in _GROUPS:
            names = groups[_GROUPS[name]] = []
        names.append(name)
    return groups


def _text(name: str, field: FieldInfo) -> str:
    """Description, default and environment variable."""
    variable = f"[yellow]{escape(f'[env var: {PREFIX}{name.upper()}]')}[/]"
    default = f" [dim]{escape(f'[default: {_plain(field.default)}]')}[/]" if _worth_showing(field) else ""
    return f"{escape(field.description or '')} {variable}{default}"


def _worth_showing(field: FieldInfo) -> bool:
    """Whether the default is a value; otherwise the description says what happens without one."""
    nothing = field.default is None or field.default is False or field.default in ("", ())
    return field.default_factory is None and not nothing


def _plain(default: Any) -> Any:
    return int(default) if isinstance(default, float) and default.is_integer() else default


def _value(name: str, annotation: Any) -> str:
    """What to write after a flag; empty for a switch."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is bool:
        return ""
    if name in _SECONDS:
        return "SECONDS"
    if origin is typing.Literal:
        return f"<{'|'.join(arguments)}>"
    if origin is tuple:
        return "COMMA-SEPARATED"
    if arguments:  # optional
        return _value(name, next(one for one in arguments if one is not type(None)))
    return _NAMES[annotation]
