"""Reads the features that `sefar extract` writes: tables, arrays, a torch dataset, nearest neighbours.

    from sefar_features import open_features

    features = open_features("features/")
    for match in features.similar("vault-7.mp4", k=5):
        print(match.id, match.score)

It needs pyarrow and NumPy; torch and usearch where they are asked for.
"""

from .errors import FeaturesError
from .features import Features, open_features
from .nearest import Match

__all__ = ["Features", "FeaturesError", "Match", "open_features"]
