"""Packages that only some commands need: what to install is told when one is missing."""

from __future__ import annotations

import importlib
from typing import Any


def optional_module(name: str, *, extra: str) -> Any:
    """Import a module whose packages come with an extra.

    Args:
        name: of the module.
        extra: of sefar-serve.

    Raises:
        ModuleNotFoundError: it is not installed; the message says how to.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"this command needs packages that are not installed ({error.name}); "
            f"install them with: pip install 'sefar-serve[{extra}]'"
        ) from error
