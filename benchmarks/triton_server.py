"""Cost of a server between gateway and model: ONNX Runtime alone, in process, on Triton, and with shared memory.

Four ways to run the same file take turns in every round, on clips that are already decoded:

- bare           ONNX Runtime alone, full batches of 8
- in process     the gateway's own engine: queue, micro-batches
- Triton, gRPC   a real tritonserver on this machine (Python backend), tensors in the messages
- Triton, shm    the same, tensors in shared memory

Throughput is measured with many concurrent clients, latency with one. Reported are medians over rounds, also of the
comparison with `bare` (throughput) and `in process` (latency) within a round. Triton, its backend and the client share
the cores.

Run: python benchmarks/triton_server.py [--model FILE] [--clips N] [--clients N] [--rounds N] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from sefar_serve.engine import Engine
from sefar_serve.engine.base import Inputs, batch_of
from sefar_serve.engine.local import LocalEngine
from sefar_serve.engine.onnx import OnnxModel
from sefar_serve.engine.triton import TritonEngine, TritonOptions
from sefar_serve.metadata import ModelMetadata
from sefar_serve.settings import shipped_model
from sefar_serve.triton_server.repository import publish
from sefar_serve.triton_server.server import TritonServer
from sefar_serve.triton_server.wheel import setup

Job = Callable[[Sequence[Inputs], int], Awaitable[None]]
BATCH = 8


def bare(model: OnnxModel) -> Job:
    """Full batches for many clients, clip by clip for a single one."""

    async def job(clips: Sequence[Inputs], clients: int) -> None:
        step = BATCH if clients > 1 else 1
        for start in range(0, len(clips), step):
            model.run(batch_of(clips[start : start + step]))

    return job


def through(engine: Engine) -> Job:
    """Concurrent clients, each sending its next clip when the last one is answered."""

    async def job(clips: Sequence[Inputs], clients: int) -> None:
        waiting = iter(clips)
        infer = engine.model(None).infer

        async def client() -> None:
            for clip in waiting:
                await infer(clip)

        await asyncio.gather(*(client() for _ in range(clients)))

    return job


def random_clips(metadata: ModelMetadata, count: int) -> list[Inputs]:
    """Inputs of random pixels, and of joints within a metre."""
    rng = np.random.default_rng(0)
    return [
        {
            name: rng.integers(0, 256, shape, dtype) if dtype == np.uint8 else rng.uniform(0, 1, shape).astype(dtype)
            for name, (dtype, shape) in metadata.inputs.items()
        }
        for _ in range(count)
    ]


async def measure(options: argparse.Namespace, server: TritonServer) -> dict[str, dict[str, list[float]]]:
    """Throughput (clips per second) and latency (seconds, median of single clips) of each way, by round."""
    model = OnnxModel(options.model, device="cpu")
    clips = random_clips(model.metadata, options.clips)
    async with AsyncExitStack() as stack:
        ways = {"bare": bare(model)}
        engines: dict[str, Engine] = {
            "in process": LocalEngine(model, max_batch=BATCH),
            "Triton, gRPC": TritonEngine(TritonOptions(server.url)),
            "Triton, shm": TritonEngine(TritonOptions(server.url, shared_memory=True)),
        }
        for name, engine in engines.items():
            await engine.start()
            stack.push_async_callback(engine.close)
            ways[name] = through(engine)
        found: dict[str, dict[str, list[float]]] = {name: {"clips/s": [], "latency": []} for name in ways}
        for number in track(range(options.rounds + 1), "rounds", console=Console(stderr=True)):
            order = list(ways) if number % 2 else list(reversed(ways))
            for name in order:
                started = time.perf_counter()
                await ways[name](clips, options.clients)
                rate = len(clips) / (time.perf_counter() - started)
                alone = []
                for clip in clips[:32]:
                    started = time.perf_counter()
                    await ways[name]([clip], 1)
                    alone.append(time.perf_counter() - started)
                if number:  # the first round warms up
                    found[name]["clips/s"].append(rate)
                    found[name]["latency"].append(statistics.median(alone))
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", type=Path, default=shipped_model())
    parser.add_argument("--clips", type=int, default=256, help="number of clips in each round and way")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        publish(options.model, Path(folder) / "models")
        with TritonServer(setup(), Path(folder) / "models", log=Path(folder) / "log") as server:
            found = asyncio.run(measure(options, server))
    table = Table("", "clips/s", "of bare", "latency, ms", "more than in process, ms")
    for name, figures in found.items():
        ratios = [a / b for a, b in zip(figures["clips/s"], found["bare"]["clips/s"], strict=True)]
        more = [a - b for a, b in zip(figures["latency"], found["in process"]["latency"], strict=True)]
        table.add_row(
            name,
            f"{statistics.median(figures['clips/s']):.3g}",
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
            f"{1000 * statistics.median(figures['latency']):.2f}",
            f"{1000 * statistics.median(more):+.2f}",
        )
    Console().print(table)
    Console().print(f"{options.model}: {options.clips} clips, {options.clients} clients, {options.rounds} rounds")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
