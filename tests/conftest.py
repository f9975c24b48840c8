"""Fixtures every test may use: the folder of real clips, and artefacts made once a session."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from grey_clips import encode_grey_clip

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real clips and official files; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("SEFAR_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real clips at {folder}; set SEFAR_SHARED_DATA to the folder that holds them")
    return folder


@pytest.fixture(scope="session")
def dark_clip() -> bytes:
    """24 dark frames; the fake engine answers class 0."""
    return encode_grey_clip([20] * 24)


@pytest.fixture(scope="session")
def bright_clip() -> bytes:
    """24 bright frames; the fake engine answers class 2."""
    return encode_grey_clip([230] * 24)


@pytest.fixture(scope="session")
def untrained_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real ONNX file of the real interface with random weights, exported once a session."""
    from sefar_training.export import export_untrained

    file = tmp_path_factory.mktemp("untrained") / "model.onnx"
    export_untrained(file, labels=["a", "b", "c", "d"])
    return file
