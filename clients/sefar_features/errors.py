"""What can be wrong with a folder of features, or with what is asked of it."""

from __future__ import annotations


class FeaturesError(ValueError):
    """The message names the input and the mend."""
