"""Batch feature extraction: ours against a typical loop, share of the ideal throughput, and peak memory.

Five jobs take turns on the same clips in every round, so that a drift of the machine's speed affects all of them:

- decode   our decode processes alone
- model    the bare ONNX Runtime session on ready tensors, full batches
- ours     what `sefar extract` does, including Parquet shards
- loop     a simple loop: PyAV decodes all frames of a video, the sampled ones are scaled, and ONNX Runtime
           runs one clip at a time; the embeddings go to one NumPy file at the end
- torch    the same with the model in torch (eager, no_grad), as in research scripts

Both stages use all cores here, so the ideal is one after the other with no core idle:
1 / (1/decode + 1/model) clips per second.

Then `sefar extract` runs in its own process over 2,000 and over 20,000 clips (the same files repeated
under different ids), and its peak memory is printed, for the parent process and including its decoders. It is the
proportional set size, so that shared memory counts once.

Run: python benchmarks/extract.py [--clips FOLDER] [--count N] [--rounds N] [--model FILE] [--memory [N ...]]
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from pathlib import Path

import av
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

from sefar_serve.assemble import make_engine, make_estimators
from sefar_serve.cores import available_cores
from sefar_serve.engine.base import Inputs, batch_of
from sefar_serve.engine.onnx import OnnxModel
from sefar_serve.extract.clips import ClipRef
from sefar_serve.extract.decoders import DecoderPool
from sefar_serve.extract.local import LocalBackend, clips_at_once
from sefar_serve.extract.rows import RowOptions
from sefar_serve.extract.run import extract
from sefar_serve.inputs import load_inputs
from sefar_serve.metadata import FRAMES, ModelMetadata
from sefar_serve.sampling import sample_indices
from sefar_serve.settings import Settings, shipped_model
from sefar_training.export import ServedModel, dropout_masks
from sefar_training.model import FrameNormalizer, create_model
from sefar_training.synthgym import write_dataset

console = Console()
BATCH = 8
Features = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def decode_alone(clips: list[ClipRef], meta: ModelMetadata) -> float:
    """Seconds that our decode processes take, with as many clips in flight as in `sefar extract`."""
    workers = available_cores()
    at_once = clips_at_once(BATCH, workers)

    async def run(pool: DecoderPool) -> float:
        waiting = iter(clips)

        async def take() -> None:
            for clip in waiting:
                async with pool.decoded(clip):
                    pass

        await asyncio.gather(*(_touch(pool, clip) for clip in clips[:workers]))  # processes are up
        started = time.perf_counter()
        await asyncio.gather(*(take() for _ in range(at_once)))
        return time.perf_counter() - started

    with DecoderPool(meta, workers=workers, slots=at_once) as pool:
        return asyncio.run(run(pool))


async def _touch(pool: DecoderPool, clip: ClipRef) -> None:
    async with pool.decoded(clip):
        pass


def model_alone(model: OnnxModel, ready: Sequence[Inputs], count: int) -> float:
    """Seconds for `count` ready clips in full batches."""
    started = time.perf_counter()
    for begin in range(0, count, BATCH):
        model.run(batch_of(ready[: min(BATCH, count - begin)]))
    return time.perf_counter() - started


def ours(clips: list[ClipRef], settings: Settings, out: Path) -> float:
    """Seconds from the first clip to the last shard; processes are started and the model is loaded before."""

    async def run() -> float:
        engine = make_engine(settings)
        await engine.start()
        model = engine.model(None)
        workers = available_cores()
        at_once = clips_at_once(settings.max_batch, workers)
        try:
            with DecoderPool(model.metadata, workers=workers, slots=at_once) as pool:
                await asyncio.gather(*(_touch(pool, clip) for clip in clips[:workers]))
                backend = LocalBackend(model, pool, RowOptions(), at_once=at_once)
                started = time.perf_counter()
                progress = await extract(clips, out, backend)
                seconds = time.perf_counter() - started
        finally:
            await engine.close()
        assert (progress.done, progress.failed) == (len(clips), 0)
        return seconds

    return asyncio.run(run())


def plain_decode(path: str, meta: ModelMetadata) -> NDArray[np.uint8]:
    """Decode all frames; scale the short side of the sampled ones and crop the centre, uint8 (F,S,S,3)."""
    with av.open(path) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    chosen = []
    for index in sample_indices(len(pictures), meta.sampling):
        picture = Image.fromarray(pictures[index])
        scale = meta.resize / min(picture.size)
        picture = picture.resize(
            (round(picture.width * scale), round(picture.height * scale)), Image.Resampling.BILINEAR
        )
        left, top = (picture.width - meta.size) // 2, (picture.height - meta.size) // 2
        chosen.append(np.asarray(picture.crop((left, top, left + meta.size, top + meta.size))))
    return np.stack(chosen)


def loop(clips: list[ClipRef], meta: ModelMetadata, features: Features, out: Path) -> float:
    """Seconds of a loop over the clips, one at a time."""
    started = time.perf_counter()
    found = [features(plain_decode(clip.path, meta)[None])[0] for clip in clips]
    np.save(out, np.stack(found))
    return time.perf_counter() - started


def torch_features(meta: ModelMetadata) -> Features:
    """The same model in torch, with random weights, which do not change its speed."""
    model = create_model("tiny", len(meta.labels), meta.sample_frames)
    served = ServedModel(model, FrameNormalizer(meta.mean, meta.std), dropout_masks(meta.mc_samples)).eval()

    @torch.no_grad()
    def features(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        return served(torch.from_numpy(frames))[1].numpy()

    return features


def compare(clips: list[ClipRef], settings: Settings, rounds: int, folder: Path) -> None:
    """Run all jobs in turn and print a table of their medians and ratios."""
    model = OnnxModel(settings.model)
    meta = model.metadata
    estimators = make_estimators(settings)
    ready = [load_inputs(clip.path, meta, estimators).inputs for clip in clips[:BATCH]]
    session: Features = lambda batch: model.run({FRAMES: batch}).embedding  # noqa: E731
    jobs: dict[str, Callable[[int], float]] = {
        "decode": lambda _: decode_alone(clips, meta),
        "model": lambda _: model_alone(model, ready, len(clips)),
        "ours": lambda turn: ours(clips, settings, folder / f"ours-{turn}"),
    }
    if meta.stream == "rgb":
        jobs["loop"] = lambda turn: loop(clips, meta, session, folder / f"loop-{turn}.npy")
    if settings.model == shipped_model():
        in_torch = torch_features(meta)
        jobs["torch"] = lambda turn: loop(clips, meta, in_torch, folder / f"torch-{turn}.npy")
    speeds: dict[str, list[float]] = {name: [] for name in jobs}
    for turn in track(range(rounds), "rounds", console=console):
        names = list(jobs)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            speeds[name].append(len(clips) / jobs[name](turn))
    speeds["ideal"] = [1 / (1 / d + 1 / m) for d, m in zip(speeds["decode"], speeds["model"], strict=True)]
    table = Table(title=f"{len(clips)} clips, {meta.name}, medians of {rounds} rounds (range)")
    for column in ("job", "clips/s", "speed of ours / this"):
        table.add_column(column, justify="left" if column == "job" else "right")
    for name, found in speeds.items():
        ratios = [mine / theirs for mine, theirs in zip(speeds["ours"], found, strict=True)]
        table.add_row(
            name,
            f"{statistics.median(found):.1f}",
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
        )
    console.print(table)


def memory(clips: list[ClipRef], count: int, settings: Settings, folder: Path) -> tuple[float, float, float]:
    """Run the command over `count` clips; return seconds, and peak MiB of its process and of all its processes."""
    manifest = folder / f"{count}.csv"
    with manifest.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "path"])
        rows.writerows((f"clip-{number}", clip.path) for number, clip in enumerate(islice(cycle(clips), count)))
    command = [sys.executable, "-m", "sefar_serve", "extract", str(manifest), "-m", str(settings.model)]
    started = time.perf_counter()
    parent = everyone = 0.0
    with (folder / f"{count}.log").open("w") as log:
        process = subprocess.Popen([*command, "--out", str(folder / f"features-{count}")], stdout=log, stderr=log)
        while process.poll() is None:
            sizes = _sizes(process.pid)
            parent, everyone = max(parent, sizes.get(process.pid, 0.0)), max(everyone, sum(sizes.values()))
            time.sleep(0.25)
    if process.returncode:
        raise SystemExit((folder / f"{count}.log").read_text())
    return time.perf_counter() - started, parent, everyone


def _sizes(root: int) -> dict[int, float]:
    """Proportional set size in MiB of a process and those below it."""
    parents, sizes = {}, {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
        except OSError:  # the process has ended meanwhile
            continue
    family = {root}
    while below := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= below
    for pid in family:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        sizes[pid] = sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024
    return sizes


def compare_memory(clips: list[ClipRef], counts: list[int], settings: Settings, folder: Path) -> None:
    """Print the command's peak memory for each number of clips."""
    table = Table(title="peak memory of `sefar extract`, MiB")
    for column in ("clips", "parent process", "with decoders", "clips/s, including start"):
        table.add_column(column, justify="right")
    for count in track(counts, "peak memory", console=console):
        seconds, parent, everyone = memory(clips, count, settings, folder)
        table.add_row(f"{count:,}", f"{parent:.0f}", f"{everyone:.0f}", f"{count / seconds:.1f}")
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, help="folder of videos (default: newly rendered SynthGym clips)")
    parser.add_argument("--count", type=int, default=720, help="clips in each job (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--model", type=Path, default=shipped_model(), help="ONNX file (default: the shipped one)")
    parser.add_argument("--memory", type=int, nargs="*", default=[2_000, 20_000], help="clips in each memory run")
    options = parser.parse_args()
    settings = Settings(model=options.model, max_batch=BATCH, max_wait_ms=20.0)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        videos = options.clips
        if videos is None:
            write_dataset(folder / "synthgym", clips_per_class={"train": 18, "val": 1, "test": 1})
            videos = folder / "synthgym" / "videos" / "train"
        paths = sorted(str(path) for path in videos.rglob("*.mp4"))
        if not paths:
            raise SystemExit(f"{videos} has no .mp4 files")
        named = enumerate(islice(cycle(paths), options.count))
        clips = [ClipRef(f"clip-{number}", path) for number, path in named]
        compare(clips, settings, options.rounds, folder)
        if options.memory:
            compare_memory(clips, options.memory, settings, folder)


if __name__ == "__main__":
    main()
