"""A whole data set, small and written once, and the same again by two processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from sefar_training.synthgym import write_dataset

COUNTS = {"train": 5, "val": 1, "test": 1}
SEED = 11


@pytest.fixture(scope="session")
def small_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Preset easy, five training clips a class, written by one process."""
    out = tmp_path_factory.mktemp("synthgym") / "one"
    write_dataset(out, "easy", SEED, COUNTS, workers=1, progress=False)
    return out


@pytest.fixture(scope="session")
def small_set_by_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same data set, written by two processes."""
    out = tmp_path_factory.mktemp("synthgym") / "two"
    write_dataset(out, "easy", SEED, COUNTS, workers=2, progress=False)
    return out
