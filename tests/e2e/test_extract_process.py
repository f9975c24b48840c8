"""`sefar extract` as a process: killed with SIGKILL and run again, it writes the same bytes as an undisturbed run."""

from __future__ import annotations

import csv
import hashlib
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from grey_clips import encode_grey_clip

CLIPS, FILES, SHARD_ROWS = 240, 12, 8


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty clips of each of a dozen files; every ninth clip is a damaged or missing file."""
    folder = tmp_path_factory.mktemp("source")
    for number in range(FILES):
        (folder / f"{number}.mp4").write_bytes(encode_grey_clip([(20 * number + n) % 256 for n in range(16)]))
    whole = (folder / "0.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("not a video")
    bad = ["cut.mp4", "empty.mp4", "text.mp4", "none.mp4"]
    file = folder / "clips.csv"
    with file.open("w", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(["id", "path"])
        for number in range(CLIPS):
            path = bad[number // 9 % 4] if number % 9 == 0 else f"{number % FILES}.mp4"
            rows.writerow([f"clip-{number}", path])
    return file


def _command(manifest: Path, out: Path) -> list[str]:
    run = [sys.executable, "-m", "sefar_serve", "extract", str(manifest), "--out", str(out), "--json"]
    return [*run, "--shard-rows", str(SHARD_ROWS)]


def _run(manifest: Path, out: Path) -> dict[str, object]:
    done = subprocess.run(_command(manifest, out), capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stderr  # clips failed
    assert "use --retry-failed to process them again" in done.stderr
    return json.loads(done.stdout)


def _hashes(out: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(out.glob("part-*"))}


def test_a_killed_and_resumed_run_equals_an_undisturbed_one(manifest: Path, tmp_path: Path) -> None:
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    counts = _run(manifest, undisturbed)
    assert (counts["total"], counts["done"], counts["failed"]) == (CLIPS, CLIPS, 27)
    assert sum(counts["failures"].values()) == 27
    assert {"not_a_video", "empty_video", "file_not_found"} <= set(counts["failures"])

    rng = random.Random(6)
    for _ in range(3):
        before = len(_hashes(killed))
        process = subprocess.Popen(_command(manifest, killed), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while len(_hashes(killed)) == before:
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.15))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert len(_hashes(killed)) < CLIPS // SHARD_ROWS
    counts = _run(manifest, killed)
    assert 0 < counts["skipped"] < CLIPS
    assert counts["skipped"] + counts["done"] == CLIPS
    assert _hashes(killed) == _hashes(undisturbed)

    rows = [row for file in sorted(killed.glob("part-*")) for row in pq.read_table(file).to_pylist()]
    assert [row["id"] for row in rows] == [f"clip-{number}" for number in range(CLIPS)]
    for number, row in enumerate(rows):
        assert (row["error_code"] is None) == (number % 9 != 0) == (row["embedding"] is not None)
        if row["error"] is not None:
            assert Path(row["path"]).name in row["error"]


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_says_how_to_resume_and_counts_its_rows(
    manifest: Path, tmp_path: Path, end: signal.Signals
) -> None:
    process = subprocess.Popen(_command(manifest, tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not _hashes(tmp_path):
        assert process.poll() is None, "it ended before it could be stopped"
        time.sleep(0.002)
    process.send_signal(end)
    printed, errors = process.communicate(timeout=60)
    assert (process.returncode, printed) == (128 + end, "")
    about = json.loads((tmp_path / "_manifest.json").read_text())
    saved = f"{about['clips']} clip{'s' if about['clips'] != 1 else ''} saved in {tmp_path}"
    assert errors == f"stopped; {saved}. Run the same command again to resume\n"
    rows = sum(pq.read_metadata(file).num_rows for file in tmp_path.glob("part-*"))
    assert (about["clips"], about["shards"], about["complete"]) == (rows, len(_hashes(tmp_path)), False)
