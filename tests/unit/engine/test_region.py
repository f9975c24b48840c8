"""Shared memory regions: reading back what was written, and finding what a killed process left."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from sefar_serve.engine.triton.region import FOLDER, Region, abandoned

pytestmark = pytest.mark.usefixtures("only_user_of_shared_memory")


def test_holds_frames_and_answers_side_by_side() -> None:
    region = Region(4096)
    try:
        region.write(np.arange(100, dtype=np.uint8).reshape(4, 25))
        with (FOLDER / region.name).open("r+b") as other:
            assert other.read(100) == bytes(range(100))
            other.seek(128)
            other.write(np.array([[1.5, -2.0]], np.float32).tobytes())
        answer = region.read(128, (1, 2))
        region.write(np.array([[0.25], [4.0]], np.float32), 256)
        assert region.read(256, (2,)).tolist() == [0.25, 4.0]
        region.write(np.zeros(4096, np.uint8))
        assert answer.tolist() == [[1.5, -2.0]], "a copy, not the memory that the next request writes to"
        assert FOLDER / region.name not in abandoned()
    finally:
        region.remove()
    assert not (FOLDER / region.name).exists()


def test_a_region_of_a_killed_process_is_abandoned() -> None:
    code = "import signal; from sefar_serve.engine.triton.region import Region; region = Region(64)"
    child = subprocess.Popen(
        [sys.executable, "-c", f"{code}; print(region.name, flush=True); signal.pause()"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    path = FOLDER / child.stdout.readline().strip()
    try:
        assert path not in abandoned()
        child.kill()
        child.wait()
        child.stdout.close()
        assert path in abandoned()
    finally:
        path.unlink()


def test_a_full_disk_raises_and_leaves_nothing() -> None:
    before = set(FOLDER.iterdir())
    with pytest.raises(OSError, match=r"No space left|File too large"):
        Region(1 << 50)
    assert set(FOLDER.iterdir()) <= before
