"""The name of a model in requests."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, StringConstraints

DEFAULT = "default"
"""Name of the default model, or of the only captioner, for clients that must send a name."""


def default_as_none(name: str | None) -> str | None:
    """The name in a request, or None if it asks for the default model.

    Args:
        name: name of a model, ``default``, or None or empty if the request has no name.
    """
    return None if name in ("", DEFAULT) else name


LONGEST = 1024
"""Characters of a name; messages repeat it."""

ModelName = Annotated[Annotated[str, StringConstraints(max_length=LONGEST)] | None, AfterValidator(default_as_none)]
"""A field that is None if the request says ``default`` or has an empty name."""
