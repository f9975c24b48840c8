"""How results print, compare and hash."""

from __future__ import annotations

import numpy as np
import pytest

from sefar_client.results import Label, WindowEmbedding

WINDOW = WindowEmbedding(start=0.0, end=1.5, embedding=np.zeros(256), tokens=np.zeros((3, 128)))


def test_the_repr_shows_the_shape_of_arrays() -> None:
    arrays = "embedding=<float32 (256,)>, tokens=<float32 (3, 128)>"
    assert repr(WINDOW) == f"WindowEmbedding(start=0.0, end=1.5, {arrays})"


def test_results_are_not_hashable() -> None:
    for result in (WINDOW, Label(label="a", index=0, score=1.0, logit=None, attributes={})):
        with pytest.raises(TypeError, match=f"^unhashable type: '{type(result).__name__}'$"):
            hash(result)
