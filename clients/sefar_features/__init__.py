"""Reads the features that `sefar extract` writes: as tables, arrays or a torch dataset, and by nearest neighbours.

    from sefar_features import open_features

    features = open_features("features/")
    for match in features.similar("vault-7.mp4", k=5):
        print(match.id, match.score)

It needs pyarrow and NumPy, and torch and usearch only for the methods that use them.
"""

from .errors import FeaturesError
from .features import Features, open_features
from .nearest import Match
from .poses import PoseDescription

__all__ = ["Features", "FeaturesError", "Match", "PoseDescription", "open_features"]
