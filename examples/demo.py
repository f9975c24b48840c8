"""The whole product in one run: new clips, a real gateway, labels, captions, embeddings, a contact sheet.

Renders clips of SynthGym's gymnast from a seed that neither training nor testing used, starts the
gateway, sends it the files over HTTP, and prints the answers. Run it with `make demo`; `make demo-lite`
leaves out captions, which need torch; `make triton-demo` puts a real Triton server behind the gateway.
"""

from __future__ import annotations

import argparse
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.table import Table

from sefar_client import Classification, Client, Embedding, Failure
from sefar_serve.cli.console import frames_text
from sefar_serve.cli.contact_sheet import SheetClip, contact_sheet
from sefar_serve.schemas.video import ClipInfo, SourceFrame
from sefar_serve.settings import shipped_model
from sefar_serve.triton_server.server import TritonServer
from sefar_serve.triton_server.wheel import setup as set_up_triton
from sefar_training.synthgym import CLASSES, ActionClass, clip_seed, encode_clip, render_clip

READY_WITHIN = 60.0
"""Seconds that the gateway may take to start."""

console = Console()

Result = TypeVar("Result")


def render(folder: Path, seed: int, count: int) -> list[tuple[Path, ActionClass]]:
    """Render `count` clips of classes drawn by the seed; return each file with its true class."""
    folder.mkdir(parents=True, exist_ok=True)
    clips = []
    for number in sorted(random.Random(seed).sample(range(len(CLASSES)), count)):
        action = CLASSES[number]
        path = folder / f"clip_{action.index:02d}.mp4"
        encode_clip(render_clip(action, clip_seed(seed, "demo", action, 0), "standard"), path)
        clips.append((path, action))
    return clips


@contextmanager
def gateway(log: Path, *flags: str) -> Iterator[str]:
    """Run a gateway in its own process on a free port, and stop it at the end. Yields its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "sefar_serve", "serve", "--port", str(port), *flags], stdout=output, stderr=output
        )
        try:
            with Client(url) as client:
                deadline = time.monotonic() + READY_WITHIN
                while not client.ready():
                    if process.poll() is not None or time.monotonic() > deadline:
                        raise SystemExit(f"the gateway did not start; its log:\n{log.read_text()}")
                    time.sleep(0.1)
            yield url
        finally:
            process.terminate()
            process.wait()


@contextmanager
def triton(log: Path) -> Iterator[list[str]]:
    """Run a Triton server with the shipped models, and stop it at the end. Yields the gateway's flags for it."""
    with console.status("setting up tritonserver (the first time: 400 MB)"):
        home = set_up_triton()
    log.unlink(missing_ok=True)
    with TritonServer(home, shipped_model().parent.parent.parent, log=log) as server:
        console.print(f"Triton serves at {server.url} (gRPC), metrics on port {server.metrics_port}")
        yield ["--triton-url", server.url, "--triton-shared-memory"]


def show(clips: Sequence[tuple[Path, ActionClass]], answers: Sequence[Classification]) -> int:
    """Print true and predicted classes; return how many predictions are right."""
    table = Table("clip", "what it shows", "what the model says", "score", "η", "")
    right = 0
    for (path, action), answer in zip(clips, answers, strict=True):
        best = answer.best
        correct = best.index == action.index
        right += correct
        table.add_row(
            path.name,
            action.name,
            best.label,
            f"{best.score:.0%}",
            f"{answer.reliability:.2f}",
            "[green]right[/]" if correct else "[red]wrong[/]",
        )
    console.print(table)
    console.print(f"{right} of {len(clips)} right; chance is 1 in {len(CLASSES)}. η says how far to trust each.\n")
    return right


def main() -> None:
    """Run the demo."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--out", type=Path, default=Path("demo"), help="folder for clips and pictures")
    options.add_argument("--seed", type=int, default=7, help="seed of the clips; another seed gives other clips")
    options.add_argument(
        "--clips", type=int, default=8, choices=range(1, len(CLASSES) + 1), metavar="N", help="how many clips"
    )
    options.add_argument("--no-captions", dest="captions", action="store_false", help="no captions, so no torch")
    options.add_argument("--triton", action="store_true", help="run the model on a Triton server, without captions")
    arguments = options.parse_args()

    console.rule("Clips that the model never saw")
    clips = render(arguments.out / "clips", arguments.seed, arguments.clips)
    console.print(f"{len(clips)} videos in {arguments.out / 'clips'}\n")

    console.rule("A gateway, and videos sent to it over HTTP")
    paths = [path for path, _ in clips]
    with ExitStack() as stack:
        flags = stack.enter_context(triton(arguments.out / "triton.log")) if arguments.triton else []
        captions = arguments.captions and not arguments.triton  # its environment has no torch
        flags += [] if captions else ["--captioner", "none"]
        url = stack.enter_context(gateway(arguments.out / "gateway.log", *flags))
        client = stack.enter_context(Client(url))
        routes = "/v1/classify, /v1/embeddings" + (", /v1/captions" if captions else "")
        console.print(f"POST {url}, {len(paths)} files to each of {routes}")
        answers = list(map(found, client.each(partial(client.classify, top_k=3), paths)))
        vectors = list(map(found, client.each(partial(client.embed, include=["embedding", "tokens"]), paths)))
        captioned = list(map(found, client.each(client.caption, paths))) if captions else []
    console.print(f"answered by {answers[0].model}, version {answers[0].version}\n")

    console.rule("Labels")
    show(clips, answers)

    if captions:
        console.rule("Captions, by a language model that reads the clips' features")
        for item in captioned:
            console.print(f"{item.name}: {item.caption}")
            if item.notice:
                console.print(f"             [yellow]{item.notice}[/]")
        console.print()

    console.rule("Where each clip's 8 frames came from")
    for answer in answers:
        console.print(f"{answer.name}: of {answer.clip.frame_count} frames: {frames_text(frames_of(answer))}")

    console.print()
    console.rule("Embeddings")
    print_embeddings(vectors)

    sheet = contact_sheet(
        [
            SheetClip(
                path,
                f"{action.name}, answered: {answer.best.label}",
                ClipInfo.model_validate(answer.clip.model_dump()),
            )
            for (path, action), answer in zip(clips, answers, strict=True)
        ],
        arguments.out / "contact_sheet.png",
    )
    console.rule("Contact sheet")
    console.print(f"{sheet}: the frames that the model saw, context and fine elements along the timeline")
    if arguments.triton:
        console.print("\nGateway and Triton are stopped. To keep them running, see docs/how-to/triton.md")
        return
    sefar = command_here()
    console.print(f"\nNext: [bold]{sefar} serve[/], then open http://127.0.0.1:8000/docs, or")
    console.print(f"      [bold]{sefar} classify {paths[0]}[/]")
    if captions:
        console.print(f'      [bold]{sefar} ask {paths[0]} "How many turns does the gymnast make?"[/]')


def command_here() -> Path:
    """The command `sefar` of the environment that runs the demo, relative to the current folder if it is inside."""
    command = Path(sys.executable).with_name("sefar")
    return command.relative_to(Path.cwd()) if command.is_relative_to(Path.cwd()) else command


def found(result: Result | Failure) -> Result:
    """The result. No clip of the demo should fail, so an error ends it."""
    if isinstance(result, Failure):
        raise result.error
    return result


def frames_of(answer: Classification) -> list[SourceFrame]:
    """The frames that the model saw."""
    return [SourceFrame(**frame.model_dump()) for frame in answer.clip.frames]


def print_embeddings(items: Sequence[Embedding]) -> None:
    """Print the first values of each vector."""
    for item in items:
        if item.embedding is not None and item.tokens is not None:
            head = ", ".join(f"{value:+.2f}" for value in item.embedding[:4])
            console.print(f"{item.name}: {len(item.embedding)} values [{head}, …], {len(item.tokens)} tokens")


if __name__ == "__main__":
    main()
