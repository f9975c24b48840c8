"""Checks at scale that `sefar extract`, killed five times, leaves the same files as an undisturbed run.

2,000 clips of SynthGym, optionally real clips of other codecs, and 50 files that cannot be decoded go through the
command twice: once undisturbed, and once killed with SIGKILL at five random moments and run again. Then each good
clip must have one row with an embedding, each bad one a row with the reason, and all files of the two runs the same
bytes. It prints the figures, and fails if something does not hold.

Run: python benchmarks/extract_killed.py [--count N] [--real FOLDER] [--kills N] [--seed N] [-- OPTIONS OF EXTRACT]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from sefar_training.synthgym import CLASSES, write_dataset

console = Console()
BAD = 50
SHARD_ROWS = 128  # small enough for every kill to leave some


def make_clips(folder: Path, count: int) -> list[Path]:
    """Render `count` clips of SynthGym in one folder."""
    per_class = -(-count // len(CLASSES))
    write_dataset(folder / "synthgym", clips_per_class={"train": per_class, "val": 1, "test": 1})
    videos = folder / "videos"
    videos.mkdir()
    made = sorted((folder / "synthgym" / "videos" / "train").rglob("*.mp4"))[:count]
    return [Path(shutil.move(clip, videos / f"{number:05d}.mp4")) for number, clip in enumerate(made)]


def make_bad_files(whole: bytes, videos: Path, rng: random.Random) -> None:
    """Write files named like videos, each damaged in one of five ways."""
    frames = whole.index(b"mdat") + 4
    end = frames - 8 + int.from_bytes(whole[frames - 8 : frames - 4])
    for number in range(BAD):
        kind = ("empty", "text", "cut", "noise", "garbled")[number % 5]
        content = {
            "empty": b"",
            "text": f"see the other folder, {number}\n".encode(),
            "cut": whole[: int(len(whole) * rng.uniform(0.2, 0.8))],  # the index at its end is missing
            "noise": whole[:32] + rng.randbytes(len(whole) - 32),
            "garbled": whole[:frames] + rng.randbytes(end - frames) + whole[end:],
        }[kind]
        (videos / f"bad_{kind}_{number:02d}.mp4").write_bytes(content)


def run(videos: Path, out: Path, options: list[str], kill_after: float | None = None) -> dict[str, object]:
    """Run the command; return its counts, or nothing if it was killed after `kill_after` seconds."""
    command = [sys.executable, "-m", "sefar_serve", "extract", str(videos), "--out", str(out), "--json"]
    command += ["--shard-rows", str(SHARD_ROWS), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        printed, errors = process.communicate(timeout=kill_after)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.communicate()
        return {}
    if process.returncode != 1:  # the status for failed clips
        raise SystemExit(f"the command exited with status {process.returncode}:\n{errors}")
    counts: dict[str, object] = json.loads(printed)
    return counts


def hashes(out: Path) -> dict[str, str]:
    """SHA-256 of every shard."""
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(out.glob("part-*"))}


def check_rows(out: Path, videos: Path) -> Counter[str]:
    """Compare the rows with the files; return the number of failures by reason.

    Raises:
        SystemExit: a clip has no row, several, or a wrong one.
    """
    rows = [row for file in sorted(out.glob("part-*.parquet")) for row in pq.read_table(file).to_pylist()]
    ids = [row["id"] for row in rows]
    if sorted(ids) != sorted(file.name for file in videos.iterdir()):
        raise SystemExit(f"{len(ids)} rows, {len(set(ids))} ids, {len(list(videos.iterdir()))} clips: not one row each")
    for row in rows:
        sound = row["error_code"] is None and len(row["embedding"]) > 0 and row["labels"]
        explained = row["error_code"] and row["id"] in row["error"] and row["embedding"] is None
        if not (explained if row["id"].startswith("bad_") else sound):
            raise SystemExit(f"{row['id']}: {row['error_code']}, {row['error']}")
    return Counter(row["error_code"] for row in rows if row["error_code"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2_000, help="clips of SynthGym (default: %(default)s)")
    parser.add_argument("--real", type=Path, help="folder of other clips to add")
    parser.add_argument("--kills", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments (default: %(default)s)")
    parser.add_argument("options", nargs="*", help="options of sefar extract, after --")
    given = parser.parse_args()
    rng = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        made = make_clips(folder, given.count)
        videos = made[0].parent
        real = sorted(given.real.iterdir()) if given.real else []
        for clip in real:
            shutil.copy(clip, videos)
        make_bad_files(made[0].read_bytes(), videos, rng)
        console.print(f"{len(made)} clips of SynthGym, {len(real)} real ones, {BAD} bad ones", highlight=False)

        table = Table("run", "ended", "s", "shards", "rows made")
        began = time.monotonic()
        counts = run(videos, folder / "undisturbed", given.options)
        took = time.monotonic() - began
        shards = len(hashes(folder / "undisturbed"))
        table.add_row("undisturbed", "normally", f"{took:.1f}", str(shards), str(counts["done"]))
        for number in range(given.kills):
            moment = rng.uniform(0.1 * took, 0.5 * took)
            run(videos, folder / "killed", given.options, kill_after=moment)
            there = len(hashes(folder / "killed"))
            table.add_row(f"killed {number + 1}", "SIGKILL", f"{moment:.1f}", str(there), "")
        began = time.monotonic()
        counts = run(videos, folder / "killed", given.options)
        shards = len(hashes(folder / "killed"))
        table.add_row("last", "normally", f"{time.monotonic() - began:.1f}", str(shards), str(counts["done"]))
        console.print(table)

        reasons = check_rows(folder / "undisturbed", videos)
        console.print(f"one row per clip; bad clips: {', '.join(f'{n} {code}' for code, n in reasons.items())}")
        check_rows(folder / "killed", videos)
        if hashes(folder / "undisturbed") != hashes(folder / "killed"):
            raise SystemExit("the shards differ from those of the undisturbed run")
        console.print(f"{shards} shards, the same bytes in both runs")


if __name__ == "__main__":
    main()
