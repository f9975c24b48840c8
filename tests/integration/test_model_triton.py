"""The Python API with a real Triton server: the same results as in this process, and nothing left at exit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sefar_client import Embedding
from sefar_serve.engine.triton.region import FOLDER, PREFIX
from sefar_serve.model import load
from sefar_serve.triton_server.server import TritonServer


@pytest.mark.parametrize("shared_memory", [False, True], ids=["grpc", "shared memory"])
def test_results_are_those_of_the_file(
    triton: TritonServer, untrained_model: Path, dark_clip: bytes, bright_clip: bytes, shared_memory: bool
) -> None:
    videos = [dark_clip, bright_clip] * 10
    with (
        load(untrained_model, device="cpu") as here,
        load(f"triton://{triton.url}", triton_shared_memory=shared_memory) as there,
    ):
        assert there.labels == here.labels
        assert triton.url in repr(there)
        for mine, theirs in zip(here.embed(videos), there.embed(videos), strict=True):
            assert isinstance(mine, Embedding)
            assert isinstance(theirs, Embedding)
            assert (mine.model, mine.name, mine.clip) == (theirs.model, theirs.name, theirs.clip)
            assert mine.embedding is not None
            assert theirs.embedding is not None
            np.testing.assert_allclose(mine.embedding, theirs.embedding, atol=1e-4)
        windows = there.classify(dark_clip, window=0.2, stride=0.04).timeline
        assert windows is not None
        assert len(windows) == 20


def test_a_program_that_ends_without_closing_leaves_no_shared_memory(triton: TritonServer, dark_clip: bytes) -> None:
    program = """
import sys
import sefar_serve as sefar
model = sefar.load(f"grpc://{sys.argv[1]}", triton_shared_memory=True)
clip = sys.stdin.buffer.read()
results = model.classify(clip for _ in range(10**9))
print(next(results).best.index, flush=True)
"""
    command = [sys.executable, "-c", program, triton.url]
    before = {path.name for path in FOLDER.glob(f"{PREFIX}*")}
    done = subprocess.run(command, input=dark_clip, capture_output=True, timeout=120, env=os.environ)
    assert (done.returncode, done.stderr) == (0, b"")
    assert {path.name for path in FOLDER.glob(f"{PREFIX}*")} == before
