"""Fixtures every test may use: the folder of real clips, and artefacts made once a session."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real clips and official files; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("SEFAR_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real clips at {folder}; set SEFAR_SHARED_DATA to the folder that holds them")
    return folder
