"""reference/cli.md: every command and option of `sefar`, read from its Typer application."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer
from tables import code, sentence, table

from sefar_serve.cli import app

INTRO = """# Command line

`sefar` is one command with a subcommand for each task. `sefar COMMAND --help` prints the same text as this page.
Commands that run a model also read the [settings](settings.md) from `SEFAR_*` environment variables.
"""


def render() -> str:
    """The page as Markdown."""
    return "\n".join([INTRO, *(_section(*found) for found in commands())])


def commands() -> Iterator[tuple[str, Any]]:
    """Every command by its full name, such as ``sefar triton load``, in the order of `sefar --help`."""
    pending = [("sefar", typer.main.get_command(app))]
    while pending:
        name, command = pending.pop(0)
        children = getattr(command, "commands", {})
        if not children:
            yield name, command
        pending[:0] = [(f"{name} {child}", children[child]) for child in children]


def _section(name: str, command: Any) -> str:
    if command.context_settings.get("ignore_unknown_options"):
        # `sefar serve` hands its flags to the settings class.
        usage, rest = f"{name} [OPTIONS]", "Every [setting](settings.md) is an option of this command.\n"
    else:
        arguments = [param for param in command.params if param.param_type_name == "argument"]
        options = [param for param in command.params if param.param_type_name == "option"]
        usage = " ".join([name, "[OPTIONS]", *map(_metavar, arguments)])
        context = typer.Context(command, info_name=name)
        rest = "\n".join(
            part
            for part in (
                table(
                    ["Argument", "Meaning"], ([code(_metavar(each)), sentence(each.help or "")] for each in arguments)
                ),
                table(["Option", "Value", "Default", "Meaning"], (_option(each, context) for each in options)),
            )
            if part
        )
    return f"## {name}\n\n```text\n{usage}\n```\n\n{_paragraphs(command.help or '')}\n\n{rest}"


def _metavar(argument: Any) -> str:
    name = (argument.metavar or argument.name.upper()).strip("{}")
    many = "…" if argument.nargs == -1 and not name.endswith("…") else ""
    return f"{name}{many}" if argument.required or name.startswith("[") else f"[{name}]{many}"


def _option(option: Any, context: typer.Context) -> list[str]:
    names = ", ".join(map(code, [*option.opts, *option.secondary_opts]))
    value = "" if option.is_flag else code(option.metavar or option.display_type(context).strip("<>"))
    limits = [f"≥\u00a0{option.min}"] * (option.min is not None) + [f"≤\u00a0{option.max}"] * (option.max is not None)
    value = "\u00a0".join([value.replace(" range", ""), ", ".join(limits)]).strip()
    default = "required" if option.required else "" if option.default in (None, False) else code(option.default)
    env = f" Environment variable: {code(option.envvar)}." if option.envvar else ""
    return [names, value, default, sentence(option.help or "") + env]


def _paragraphs(text: str) -> str:
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))
