"""Training in real processes: killed and resumed, and shared by two processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from sefar_training.checkpoint import load_checkpoint

# Few small clips, no batch statistics and no dropout, so that only the order of arithmetic can differ.
RECIPE = {
    "method": "sefar",
    "model": {
        "architecture": {"patch": 16, "dim": 24, "depth": 2, "heads": 3, "stem": "patch"},
        "size": 32,
        "resize": 32,
        "dropout": 0.0,
    },
    "data": {
        "train": "lists/synthgym_20/train.csv",
        "unlabel": "lists/synthgym_20/unlabel.csv",
        "classes": "classes.json",
        "cache_gb": 1,
    },
    "optim": {"epochs": 3, "steps_per_epoch": 16, "batch_size": 4, "lr": 1e-3, "precision": "fp32"},
    "semi": {"batch_size": 4, "start_epoch": 1, "teacher_decay": 0.9, "mix_weight": 0.0},
}


@pytest.fixture(scope="module")
def recipe(small_gym: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recipe")
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump({**RECIPE, "out": str(folder), "data": RECIPE["data"] | {"root": str(small_gym)}}))
    return file


def environment(**more: str) -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **more}


def command(recipe: Path, out: Path, *changes: str) -> list[str]:
    call = "from sefar_serve.cli import main; main()"
    return [sys.executable, "-c", call, "train", str(recipe), f"out={out}", *changes]


def weights(run: Path, name: str = "final") -> dict[str, torch.Tensor]:
    return load_checkpoint(run / name)[0].state_dict()


@pytest.fixture(scope="module")
def undisturbed(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in one process, from start to end."""
    out = tmp_path_factory.mktemp("undisturbed")
    subprocess.run(command(recipe, out), env=environment(), check=True, capture_output=True)
    return out


def test_killed_and_resumed_training_equals_an_uninterrupted_one(
    recipe: Path, undisturbed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "killed"
    state = out / "state.pt"
    process = subprocess.Popen(
        command(recipe, out, "checkpoint_steps=3"),
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 600
    saved = 0
    while saved < 8:  # one epoch saves six times, so the run is inside its second
        assert process.poll() is None, "training ended before it could be killed"
        assert time.monotonic() < deadline
        before = state.stat().st_mtime_ns if state.exists() else 0
        while (state.stat().st_mtime_ns if state.exists() else 0) == before and process.poll() is None:
            time.sleep(0.002)
        saved += 1
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    kept = torch.load(state, weights_only=True)
    assert (kept["epoch"], kept["first_step"]) >= (1, 3)
    assert not (out / "final").exists()

    resumed = command(recipe, out, "checkpoint_steps=3", "--resume")
    subprocess.run(resumed, env=environment(), check=True, capture_output=True)
    for name in ("final", "student"):
        whole, again = weights(undisturbed, name), weights(out, name)
        for key, value in whole.items():
            assert torch.allclose(value, again[key], rtol=0, atol=1e-6), (name, key)


def test_two_processes_equal_one_with_the_same_total_batch(recipe: Path, undisturbed: Path, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    # As `accelerate launch --cpu --num_processes 2` sets it for each process.
    world = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "ACCELERATE_USE_CPU": "true"}
    ranks = [
        subprocess.Popen(
            command(recipe, tmp_path / "two"),
            env=environment(**world, RANK=str(rank), LOCAL_RANK=str(rank)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    for process in ranks:
        output, _ = process.communicate(timeout=900)
        assert process.returncode == 0, output
    one, two = weights(undisturbed), weights(tmp_path / "two")
    untrained = {key: value for key, value in one.items() if not torch.allclose(value, two[key], rtol=0, atol=2e-3)}
    assert not untrained
    moved = max(float((value - two[key]).abs().max()) for key, value in one.items())
    assert moved < 2e-3
