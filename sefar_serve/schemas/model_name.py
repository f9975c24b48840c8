"""The name of a model, as requests give it."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

DEFAULT = "default"
"""Stands for the default model, or the only captioner, for clients that must send a name."""


def default_as_none(name: str | None) -> str | None:
    """The name that a request gives, or None if it asks for the default model.

    Args:
        name: of a model, ``default``, or None if the request has no name.
    """
    return None if name == DEFAULT else name


ModelName = Annotated[str | None, AfterValidator(default_as_none)]
"""A field that is None where the request says ``default``."""
