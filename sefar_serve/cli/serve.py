"""The command `sefar serve`. Its flags are the settings."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from sefar_serve.api.server import serve as serve_gateway
from sefar_serve.cli.options import needs_engine
from sefar_serve.cli.settings_help import print_help
from sefar_serve.settings import Settings, SettingsError, flag_of, nearest, read_settings


def serve(ctx: typer.Context) -> None:
    """Run the HTTP server; `sefar serve --help` lists all settings."""
    # The settings class parses its own flags, so each setting has a single name and description.
    if {"-h", "--help"} & set(ctx.args):
        print_help()
        return
    check_flags(ctx.args)
    settings = read_settings(ctx.args)
    needs_engine(settings)
    serve_gateway(settings)


def check_flags(arguments: Sequence[str]) -> None:
    """Check that every argument is a flag of a setting, or its value.

    Raises:
        SettingsError: one is not, or a value is missing.
    """
    switches = {flag_of(name) for name, field in Settings.model_fields.items() if field.annotation is bool}
    valued = {flag_of(name) for name in Settings.model_fields} - switches
    switches |= {f"--no-{switch.removeprefix('--')}" for switch in switches}
    rest = iter(arguments)
    for argument in rest:
        flag, equals, _ = argument.partition("=")
        if not argument.startswith("-"):
            raise SettingsError(f"unexpected argument {argument!r}; each setting is a flag, e.g. --model {argument}")
        if flag not in valued | switches:
            raise SettingsError(f"unknown flag {flag}{nearest(flag, valued | switches)}")
        if flag in valued and not equals and next(rest, None) is None:
            raise SettingsError(f"{flag} needs a value")
