"""Errors of reading features."""

from __future__ import annotations


class FeaturesError(ValueError):
    """A folder of features or an argument is invalid. The message names it and says how to fix it."""
