"""The commands `sefar triton …`: install and run a server, fill its repository, load and unload models."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from sefar_serve.cli import console
from sefar_serve.engine import EngineError
from sefar_serve.optional import needs_extra
from sefar_serve.triton_server.server import TritonServer, TritonServerError
from sefar_serve.triton_server.wheel import TritonHome, TritonSetupError, default_home
from sefar_serve.triton_server.wheel import setup as set_up

app = typer.Typer(no_args_is_help=True, help="Run NVIDIA Triton on this machine, and fill its model repository.")

MIN_LIFE_SECONDS = 5.0
"""A server that exits sooner than this is not restarted."""

POLL_SECONDS = 0.2
"""Interval at which the server and the stop flag are checked."""

TritonName = Annotated[str, typer.Option("--triton-name", help="name of the model in Triton, which is its folder name")]
Home = Annotated[
    Path | None,
    typer.Option("--home", help="folder of the server's environment (default: SEFAR_TRITON_HOME, or else in ~/.cache)"),
]
Names = Annotated[list[str], typer.Argument(metavar="NAME", help="names of models in Triton")]
Url = Annotated[str, typer.Option("--url", help="host:port of the server's gRPC endpoint")]


@app.command()
def setup(home: Home = None) -> None:
    """Install the Triton server from the PyPI package nvidia-pytriton in its own environment (400 MB)."""
    with console.err.status("installing tritonserver"):
        made = set_up(home)
    typer.echo(f"tritonserver: {made.binary}")


@app.command()
def serve(
    repository: Annotated[Path, typer.Argument(help="model repository folder")] = Path("model_repository"),
    home: Home = None,
    host: Annotated[str, typer.Option("--host", help="address to listen on")] = "127.0.0.1",
    grpc_port: Annotated[int, typer.Option("--grpc-port", help="port for the gateway; 0 picks a free one")] = 8001,
    http_port: Annotated[int, typer.Option("--http-port", help="0 picks a free one")] = 8003,
    metrics_port: Annotated[int, typer.Option("--metrics-port", help="0 picks a free one")] = 8002,
    log: Annotated[Path | None, typer.Option("--log", help="file for the server's log (default: the terminal)")] = None,
) -> None:
    """Serve a model repository on the CPU. Ctrl-C lets running requests finish first."""
    prepared = TritonHome(home or default_home())
    if not prepared.ready:
        raise TritonSetupError("the Triton server is not installed; run: sefar triton setup")
    server = TritonServer(
        prepared, repository, host=host, grpc_port=grpc_port, http_port=http_port, metrics_port=metrics_port, log=log
    )
    # A flag, not an exception: an exception raised while a connection is closed would be lost.
    ending = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ending.set())
    with server:
        console.err.print(f"Triton serves {repository}; now run: sefar serve --triton-url {server.url}")
        _stay_up(server, ending)


def _stay_up(server: TritonServer, ending: threading.Event) -> None:
    """Restart the server if a signal kills it, as an orchestrator would, until asked to stop."""
    started = time.monotonic()
    while not ending.is_set():
        status = server.wait(POLL_SECONDS)
        if status is None:
            continue
        if ending.is_set():
            return
        if status >= 0 or time.monotonic() - started < MIN_LIFE_SECONDS:
            raise TritonServerError(f"the Triton server exited with status {status}; see its log")
        console.err.print(f"[red]the Triton server was killed by signal {-status}; restarting it[/]")
        server.start()
        started = time.monotonic()


@app.command()
def publish(
    file: Annotated[Path, typer.Argument(metavar="ONNX", help="exported model")],
    repository: Annotated[Path, typer.Argument(help="model repository folder; created if missing")],
    triton_name: TritonName = "sefar_encoder",
) -> None:
    """Put an exported model and its configurations into a model repository."""
    with needs_extra("cpu,triton"):
        from sefar_serve.triton_server import repository as models
    typer.echo(str(models.publish(file, repository, triton_name)))


@app.command()
def load(names: Names, url: Url = "127.0.0.1:8001") -> None:
    """Make a running server load models or their new versions. Running requests finish on the old ones."""
    _control("load_model", names, url)


@app.command()
def unload(names: Names, url: Url = "127.0.0.1:8001") -> None:
    """Make a running server unload models. Running requests finish first."""
    _control("unload_model", names, url)


def _control(call: Literal["load_model", "unload_model"], names: Sequence[str], url: str) -> None:
    with needs_extra("triton"):
        from tritonclient.grpc import InferenceServerClient
        from tritonclient.utils import InferenceServerException
    with InferenceServerClient(url) as server:
        for name in names:
            try:
                getattr(server, call)(name, client_timeout=120)
            except InferenceServerException as error:
                raise EngineError(f"{name}: {error.message()} (Triton server at {url})") from error
            typer.echo(f"{name}: {call.removesuffix('_model')}ed")
