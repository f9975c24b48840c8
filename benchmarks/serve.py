"""Cost of the gateway: clips per second over HTTP against the same work without it.

Five jobs take turns in every round, so that a drift of the machine's speed affects all of them:

- model      the bare ONNX Runtime session on ready tensors, full batches
- threads    opening, decoding and sampling alone, in the gateway's number of threads
- processes  the same in as many decode processes
- direct     decode (in processes) and inference without HTTP (the work the gateway wraps)
- gateway    the same clips as raw bodies over HTTP, over concurrent keep-alive connections

Throughput at saturation includes the load generator, which shares the machine's cores with the
gateway. CPU seconds per clip do not: they are those of one process alone, without those of
decode processes. The last lines are the latency of a single clip.

Run: python benchmarks/serve.py [--model FILE] [--clips FOLDER]
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path

from rich.console import Console
from rich.table import Table

from sefar_serve.assemble import bounds_of, make_decoders, make_engine, make_estimators
from sefar_serve.cores import available_cores
from sefar_serve.decoding import Decoders, DecodeTask, ThreadDecoders
from sefar_serve.engine.base import Inputs, batch_of
from sefar_serve.engine.onnx import OnnxModel
from sefar_serve.recognition import ClipInput, Recognizer
from sefar_serve.settings import Settings

console = Console()
TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """User and system time that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


@contextmanager
def gateway(settings: Settings) -> Iterator[tuple[int, int]]:
    """Run a gateway in its own process; yields its port and process id."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "sefar_serve",
        "serve",
        "--port",
        str(port),
        "--model",
        str(settings.model),
    ]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen([*command, "--log-level", "warning"], stdout=log, stderr=log)
        try:
            for _ in range(600):
                try:
                    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
                    connection.request("GET", "/readyz")
                    if connection.getresponse().status == 200:
                        break
                except OSError:
                    pass
                if process.poll() is not None:
                    log.seek(0)
                    raise SystemExit(log.read().decode())
                time.sleep(0.1)
            yield port, process.pid
        finally:
            process.terminate()
            process.wait()


def post_all(port: int, bodies: Sequence[bytes], connections: int) -> None:
    """Send every body once over `connections` keep-alive connections, as fast as they are answered."""
    queue = iter(bodies)
    lock = threading.Lock()

    def work() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while True:
            with lock:
                body = next(queue, None)
            if body is None:
                connection.close()
                return
            connection.request("POST", "/v1/classify", body, {"content-type": "video/mp4"})
            response = connection.getresponse()
            answer = response.read()
            if response.status != 200:
                raise RuntimeError(answer.decode())

    with ThreadPoolExecutor(connections) as pool:
        for done in [pool.submit(work) for _ in range(connections)]:
            done.result()


async def recognise_all(recognizer: Recognizer, bodies: Sequence[bytes], at_once: int) -> None:
    """Do the gateway's work without the gateway."""
    places = asyncio.Semaphore(at_once)

    async def one(body: bytes) -> None:
        async with places:
            [found] = await recognizer.recognise([ClipInput("clip", lambda: body)], recognizer.engine.model(None))
            if isinstance(found, Exception):
                raise found

    await asyncio.gather(*(one(body) for body in bodies))


def timed(job: Callable[[], object], pid: int) -> tuple[float, float]:
    """Wall seconds of a job, and CPU seconds that process `pid` spent on it."""
    cpu, wall = cpu_seconds(pid), time.perf_counter()
    job()
    return time.perf_counter() - wall, cpu_seconds(pid) - cpu


def make_clips(count: int) -> list[bytes]:
    """Render new SynthGym clips."""
    from sefar_training.synthgym import CLASSES, clip_seed, encode_clip, render_clip

    with tempfile.TemporaryDirectory() as folder:
        bodies = []
        for number, action in enumerate(islice(cycle(CLASSES), count)):
            path = Path(folder) / f"{number}.mp4"
            encode_clip(render_clip(action, clip_seed(1, "demo", action, number), "standard"), path)
            bodies.append(path.read_bytes())
        return bodies


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--model", type=Path, help="ONNX file [default: the shipped model]")
    options.add_argument("--clips", type=Path, help="folder of videos [default: newly rendered SynthGym clips]")
    options.add_argument("--count", type=int, default=192, help="clips per job and round")
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--connections", type=int, default=16)
    options.add_argument("--json", type=Path, help="also write the figures here")
    arguments = options.parse_args()

    settings = Settings(model=arguments.model) if arguments.model else Settings()
    if arguments.clips:
        found = [path.read_bytes() for path in sorted(arguments.clips.iterdir()) if path.is_file()]
    else:
        found = make_clips(min(arguments.count, 64))
    bodies = list(islice(cycle(found), arguments.count))
    model = OnnxModel(settings.model)
    meta = model.metadata

    estimators = make_estimators(settings)
    threads = ThreadDecoders(settings.decode_threads, estimators)
    processes = make_decoders(settings, estimators, serving=True)
    processes.start(meta)

    def decode(decoders: Decoders, some: Sequence[bytes]) -> list[Inputs]:
        waiting = [decoders.submit(lambda body=body: body, DecodeTask(meta, "clip")) for body in some]  # type: ignore[misc]
        return [one.result().clips[0].inputs for one in waiting]

    ready = decode(threads, bodies)
    batch = settings.max_batch

    def infer_ready() -> None:
        for start in range(0, len(ready), batch):
            model.run(batch_of(ready[start : start + batch]))

    me = os.getpid()
    walls: dict[str, list[float]] = {}
    cpus: dict[str, list[float]] = {}
    alone: dict[str, list[float]] = {"threads": [], "processes": [], "direct": [], "gateway": []}
    runner = asyncio.Runner()
    recognizer = Recognizer(
        make_engine(settings), bounds_of(settings), decoders=make_decoders(settings, estimators, serving=True)
    )
    runner.run(recognizer.start())
    with gateway(settings) as (port, pid):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

        def ask(body: bytes) -> None:
            connection.request("POST", "/v1/classify", body, {"content-type": "video/mp4"})
            connection.getresponse().read()

        jobs: dict[str, tuple[Callable[[], object], int]] = {
            "model": (infer_ready, me),
            "threads": (lambda: decode(threads, bodies), me),
            "processes": (lambda: decode(processes, bodies), me),
            "direct": (lambda: runner.run(recognise_all(recognizer, bodies, arguments.connections)), me),
            "gateway": (lambda: post_all(port, bodies, arguments.connections), pid),
        }
        for number in range(arguments.rounds + 1):
            for name, (job, measured) in jobs.items():
                wall, cpu = timed(job, measured)
                if number:  # the first round warms up
                    walls.setdefault(name, []).append(wall)
                    cpus.setdefault(name, []).append(cpu)
            connection.close()  # the gateway may have closed it meanwhile; the first request below reopens it
            for body in islice(cycle(found), 24):
                for name, lone in (
                    ("threads", lambda b: decode(threads, [b])),
                    ("processes", lambda b: decode(processes, [b])),
                    ("direct", lambda b: runner.run(recognise_all(recognizer, [b], 1))),
                    ("gateway", ask),
                ):
                    start = time.perf_counter()
                    lone(body)
                    if number:
                        alone[name].append(1000 * (time.perf_counter() - start))
        connection.close()
    runner.run(recognizer.close())
    runner.close()
    threads.close()
    processes.close()

    count = len(bodies)
    table = Table("job", "clips/s", "CPU ms per clip", title=f"{count} clips, {arguments.rounds} rounds, medians")
    for name in jobs:
        table.add_row(
            name,
            f"{count / statistics.median(walls[name]):.0f}",
            f"{1000 * statistics.median(cpus[name]) / count:.2f}",
        )
    console.print(table)

    def ratio(figures: dict[str, list[float]], a: str, b: str) -> float:
        return statistics.median(x / y for x, y in zip(figures[a], figures[b], strict=True))

    figures = {
        "wall_gateway_over_direct": ratio(walls, "gateway", "direct"),
        "cpu_gateway_over_direct": ratio(cpus, "gateway", "direct"),
        "wall_gateway_over_model": ratio(walls, "gateway", "model"),
        "wall_gateway_over_processes": ratio(walls, "gateway", "processes"),
        "wall_processes_over_threads": ratio(walls, "processes", "threads"),
        "lone_threads_p50_ms": statistics.median(alone["threads"]),
        "lone_processes_p50_ms": statistics.median(alone["processes"]),
        "lone_processes_minus_threads_p50_ms": statistics.median(
            b - a for a, b in zip(alone["threads"], alone["processes"], strict=True)
        ),
        "lone_direct_p50_ms": statistics.median(alone["direct"]),
        "lone_gateway_p50_ms": statistics.median(alone["gateway"]),
        "cpus": available_cores(),
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    console.print(
        f"At saturation a clip over HTTP takes {figures['wall_gateway_over_direct']:.2f} x the wall time of "
        f"the direct job (including the load generator)\n"
        f"and {figures['cpu_gateway_over_direct']:.2f} x its CPU time; "
        f"{figures['wall_gateway_over_model']:.2f} x the wall time of the bare model, "
        f"{figures['wall_gateway_over_processes']:.2f} x that of decode alone.\n"
        f"Decoding in processes takes {figures['wall_processes_over_threads']:.2f} x the wall time of threads. "
        f"A single clip: p50 {figures['lone_processes_p50_ms']:.2f} ms in a process, "
        f"{figures['lone_threads_p50_ms']:.2f} ms in a thread\n"
        f"(median of the differences: {figures['lone_processes_minus_threads_p50_ms']:.2f} ms).\n"
        f"A single request: p50 {figures['lone_gateway_p50_ms']:.2f} ms over HTTP, "
        f"{figures['lone_direct_p50_ms']:.2f} ms direct."
    )
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
