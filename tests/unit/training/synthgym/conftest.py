from __future__ import annotations

from pathlib import Path

import pytest

from sefar_training.synthgym import write_dataset


@pytest.fixture(scope="session")
def small_gym_by_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same data set as `small_gym`, written by two processes."""
    out = tmp_path_factory.mktemp("synthgym") / "two"
    write_dataset(out, "easy", 0, {"train": 5, "val": 1, "test": 1}, workers=2, progress=False)
    return out
