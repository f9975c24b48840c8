"""Optional packages: a missing one is reported together with the extra that installs it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_OURS = ("sefar_serve", "sefar_training", "sefar_client", "sefar_features")


@contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Put imports that need an extra inside this block.

    Args:
        extra: name of the extra of sefar-serve, e.g. ``cpu`` or ``cpu,triton``.

    Raises:
        ModuleNotFoundError: a package is not installed; the message says how to install it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.partition(".")[0] in _OURS:
            raise  # a bug in our own imports, not a missing package
        raise ModuleNotFoundError(
            f"{error.name} is not installed; install it with: pip install 'sefar-serve[{extra}]'", name=error.name
        ) from error
