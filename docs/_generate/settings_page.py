"""reference/settings.md: every setting of the gateway, read from `sefar_serve.settings.Settings`."""

from __future__ import annotations

import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from tables import code, sentence

from sefar_serve.settings import Settings

INTRO = """# Settings

Each setting has one name with three spellings: a flag of `sefar serve`, an environment variable, and a key in the TOML
file named by `SEFAR_CONFIG`. A flag takes precedence over the environment, the environment over the file, and the file
over the default. An unknown key or an invalid value stops the gateway at startup with a message that names the setting.

`sefar classify` and the other commands that load a model read the environment and the file as well.
"""

_NAMES = {str: "text", int: "integer", float: "number", bool: "true or false", Path: "path", SecretStr: "secret"}
_LIMITS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def render() -> str:
    """The page as Markdown."""
    return "\n".join([INTRO, *(_entry(name, field) for name, field in Settings.model_fields.items())])


def flag(name: str) -> str:
    """The flag of `sefar serve` for a setting."""
    return "--" + name.replace("_", "-")


def _entry(name: str, field: FieldInfo) -> str:
    facts = [code(flag(name)), code(f"SEFAR_{name.upper()}"), _type(field), f"default: {_default(field)}"]
    return f"## {name}\n\n{sentence(field.description or '')}\n\n{' · '.join(facts)}\n"


def _type(field: FieldInfo) -> str:
    limits = [
        f"{sign} {getattr(rule, key)}" for rule in field.metadata for key, sign in _LIMITS.items() if hasattr(rule, key)
    ]
    return " ".join([_type_name(field.annotation), ", ".join(limits)]).strip()


def _type_name(annotation: Any) -> str:
    arguments = [each for each in typing.get_args(annotation) if each not in (type(None), Ellipsis)]
    if typing.get_origin(annotation) is typing.Literal:
        return " or ".join(map(code, arguments))
    if typing.get_origin(annotation) is tuple:
        return f"comma-separated list of {_type_name(arguments[0])}"
    if typing.get_origin(annotation) is typing.Annotated:
        return _type_name(arguments[0])
    return " or ".join(map(_type_name, arguments)) if arguments else _NAMES.get(annotation, annotation.__name__)


def _default(field: FieldInfo) -> str:
    if field.default_factory is not None:
        # A path or a number of this machine: its description instead of its value here.
        described = (field.default_factory.__doc__ or "").split("\n")[0].split(",")[0].split(":")[0].rstrip(".")
        return described[:1].lower() + described[1:]
    value = field.default
    if value is None or (isinstance(value, Sequence) and len(value) == 0):
        return "none"
    return code(str(value).lower() if isinstance(value, bool) else value)
