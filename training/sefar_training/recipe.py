"""Reading recipe files: YAML with overrides, checked against a model, with errors that name the offending key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from sefar_serve.errors import SefarError
from sefar_serve.validation import explain

Recipe = TypeVar("Recipe", bound=BaseModel)


class RecipeError(SefarError, ValueError):
    """A recipe cannot be read or contradicts itself; the message names file and key."""


def shipped(kind: str) -> Path:
    """The folder of the ``recipes`` or ``studies`` that ship: in the installed package, or beside it in a checkout."""
    package = Path(__file__).parent
    return next((place for place in (package / kind, package.parent / kind) if place.is_dir()), package / kind)


def find_recipe(name: Path, kind: type[BaseModel], of_folder: str = "") -> Path:
    """Find a recipe by the path of its file, or by its name among those that ship.

    Args:
        name: path, or name, e.g. ``ucf101``.
        kind: what it is a recipe of; recipes of another kind are not suggested.
        of_folder: what the message says to somebody who gives a folder.

    Raises:
        RecipeError: there is none; the message lists those that ship.
    """
    if name.is_file():
        return name
    folder = shipped("recipes")
    if len(name.parts) == 1 and (folder / f"{name}.yaml").is_file():
        return folder / f"{name}.yaml"
    known = ", ".join(file.stem for file in sorted(folder.glob("*.yaml")) if _is_of(file, kind))
    wrong = f"is a folder, not a recipe{of_folder}" if name.is_dir() else "does not exist"
    raise RecipeError(f"{name} {wrong}; give a YAML file, or the name of a recipe that ships: {known}")


def _is_of(file: Path, kind: type[BaseModel]) -> bool:
    return yaml.safe_load(file.read_text(encoding="utf-8")).keys() <= kind.model_fields.keys()


def read_recipe(path: Path, kind: type[Recipe], overrides: Sequence[str] = ()) -> Recipe:
    """Read a YAML file of a model's fields.

    Args:
        path: the file.
        kind: the model.
        overrides: ``dotted.key=value`` strings; the value is read as YAML (``3``, ``true``, ``[2, 2, 4]``, ``null``).

    Raises:
        RecipeError: the file does not exist or is not a YAML mapping, an override has no ``=``, or a key or value is
            wrong.
    """
    try:
        fields = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RecipeError(f"{path} does not exist; give a YAML file") from error
    except IsADirectoryError as error:
        raise RecipeError(f"{path} is a folder; give a YAML file") from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path} is not a text file; give a YAML file") from error
    except yaml.YAMLError as error:
        raise RecipeError(f"{path} is not YAML: {error}") from error
    if not isinstance(fields, dict):
        raise RecipeError(f"{path} is not a recipe: its top level must be a mapping of keys")
    for override in overrides:
        _apply(fields, override)
    try:
        return kind(**fields)
    except ValidationError as error:
        wrong = "; ".join(_reason(one, kind) for one in error.errors())
        raise RecipeError(f"{path}: {wrong}") from error


def _reason(error: Mapping[str, Any], kind: type[BaseModel]) -> str:
    """What is wrong with a key or value. For an unknown key, with the most similar keys beside it."""
    *parents, key = error["loc"] or ("",)
    if error["type"] != "extra_forbidden":
        return explain(error)
    known = _keys(kind, parents)
    found = get_close_matches(str(key), known, n=3)
    near = [".".join(map(str, [*parents, one])) for one in found]
    hint = f"did you mean {' or '.join(near)}?" if near else f"the keys are {', '.join(known)}"
    return f"unknown key {'.'.join(map(str, error['loc']))!r}; {hint}"


def check_overrides(overrides: Sequence[str], kind: type[BaseModel]) -> None:
    """Check that changes are of keys that exist, before a recipe is read.

    Raises:
        RecipeError: a change has no ``=``, or its key is unknown.
    """
    for override in overrides:
        _apply({}, override)
        key = override.partition("=")[0]
        parts = key.split(".")
        for place, part in enumerate(parts):
            known = _keys(kind, parts[:place])
            if not known:
                break  # this group's keys are free
            if part not in known:
                wrong = {"type": "extra_forbidden", "loc": parts[: place + 1]}
                raise RecipeError(f"{key}: {_reason(wrong, kind)}")


def _keys(kind: type[BaseModel], parents: Sequence[str | int]) -> list[str]:
    """The keys of a group of a recipe; empty if the group's keys are free."""
    models = [kind]
    for parent in parents:
        named = [one.model_fields[str(parent)].annotation for one in models if str(parent) in one.model_fields]
        if named:  # otherwise the tag of a union, or a position in a list
            models = [model for annotation in named for model in _models_in(annotation)]
    return sorted({name for one in models for name in one.model_fields})


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models_in(argument)]


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
