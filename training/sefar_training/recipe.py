"""Reading recipe files: YAML with overrides, checked against a model, with errors that name the offending key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from sefar_serve.errors import SefarError

Recipe = TypeVar("Recipe", bound=BaseModel)


class RecipeError(SefarError, ValueError):
    """A recipe cannot be read or contradicts itself; the message names file and key."""


def read_recipe(path: Path, kind: type[Recipe], overrides: Sequence[str] = ()) -> Recipe:
    """Read a YAML file of a model's fields.

    Args:
        path: the file.
        kind: the model.
        overrides: ``dotted.key=value`` strings; the value is read as YAML (``3``, ``true``, ``[2, 2, 4]``, ``null``).

    Raises:
        RecipeError: the file is not a YAML mapping, an override has no ``=``, or a key or value is wrong.
    """
    try:
        fields = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise RecipeError(f"{path} is not YAML: {error}") from error
    if not isinstance(fields, dict):
        raise RecipeError(f"{path} is not a recipe: its top level must be a mapping of keys")
    for override in overrides:
        _apply(fields, override)
    try:
        return kind(**fields)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'recipe'}: {e['msg']}" for e in error.errors())
        raise RecipeError(f"{path}: {wrong}") from error


def as_overrides(changes: Mapping[str, Any]) -> list[str]:
    """Write changes ``{dotted.key: value}`` as the overrides that `read_recipe` takes."""
    return [f"{key}={yaml.safe_dump(value, default_flow_style=True)}" for key, value in changes.items()]


def _apply(fields: dict[str, Any], override: str) -> None:
    """Change one key in place."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise RecipeError(f"override {override!r} is not of the form key=value, e.g. optim.epochs=3")
    *parents, last = key.split(".")
    target = fields
    for parent in parents:
        value = target.setdefault(parent, {})
        if not isinstance(value, dict):
            raise RecipeError(f"override {override!r}: {parent} is a value, not a group of keys")
        target = value
    try:
        target[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"override {override!r}: the value is not YAML") from error
