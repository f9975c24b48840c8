"""A Triton server as a child process: starts on given ports, and stops without losing requests."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import time
import uuid
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType

import httpx

from sefar_serve.engine.errors import EngineError
from sefar_serve.triton_server.wheel import TritonHome

log = logging.getLogger(__name__)

READY_SECONDS = 60.0
STOP_SECONDS = 30


class TritonServerError(EngineError):
    """The server did not start, or stopped unexpectedly."""


class TritonServer:
    """Serves a model repository with the wheel's server; use as a context manager.

    Args:
        home: the environment it runs in.
        repository: folder of models.
        host: address to listen on.
        grpc_port: port of the gRPC endpoint, which the gateway uses; 0 takes a free port.
        http_port: port of the HTTP endpoint; 0 takes a free port.
        metrics_port: port of the Prometheus metrics; 0 takes a free port.
        log: file for the server's log; None for this process's standard error.
    """

    def __init__(
        self,
        home: TritonHome,
        repository: Path,
        *,
        host: str = "127.0.0.1",
        grpc_port: int = 0,
        http_port: int = 0,
        metrics_port: int = 0,
        log: Path | None = None,
    ) -> None:
        self._home = home
        self.repository = repository
        self._host = host
        self._log = log
        self.grpc_port, self.http_port, self.metrics_port = free_ports(host, grpc_port, http_port, metrics_port)
        self.process: subprocess.Popen[bytes] | None = None
        self._shared = f"triton-sefar-{uuid.uuid4().hex[:8]}-"

    @property
    def url(self) -> str:
        """host:port of the gRPC endpoint, for SEFAR_TRITON_URL."""
        return f"{self._host}:{self.grpc_port}"

    def start(self) -> None:
        """Start the server and wait until it answers, whether or not all models load.

        Raises:
            TritonServerError: it exited, or does not answer within `READY_SECONDS`.
        """
        if not self.repository.is_dir():
            raise TritonServerError(
                f"there is no model repository at {self.repository}; write one with `sefar export --repository`"
            )
        with ExitStack() as stack:
            output = stack.enter_context(self._log.open("ab")) if self._log else None
            self.process = subprocess.Popen(
                self._command(), env=self._home.environment(), stdout=output, stderr=output, start_new_session=True
            )
        deadline = time.monotonic() + READY_SECONDS
        while not self._live():
            if self.process.poll() is not None:
                raise TritonServerError(
                    f"the Triton server exited with status {self.process.returncode}{self._see_log()}"
                )
            if time.monotonic() > deadline:
                self.kill()
                raise TritonServerError(f"the Triton server did not answer within {READY_SECONDS:g} s{self._see_log()}")
            time.sleep(0.05)
        try:
            self._rescue()
        except BaseException:
            self.kill()  # the caller never gets to stop it
            raise

    def stop(self) -> None:
        """Wait for running requests to finish, then stop the server; safe to call twice."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS + 5)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """Kill the server and the processes of its backend."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            # A killed backend leaves the memory that it shares with its processes behind.
            for region in Path("/dev/shm").glob(f"{self._shared}*"):
                region.unlink(missing_ok=True)

    def wait(self, seconds: float) -> int | None:
        """Wait up to `seconds` for the server to exit; return its exit status, or None if it is still running."""
        if self.process is None:
            raise TritonServerError("the Triton server was not started")
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def metrics(self) -> str:
        """The server's Prometheus metrics, as text."""
        return httpx.get(f"http://{self._host}:{self.metrics_port}/metrics").raise_for_status().text

    def __enter__(self) -> TritonServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _command(self) -> list[str]:
        return [
            str(self._home.binary),
            f"--model-repository={self.repository.resolve()}",
            f"--backend-directory={self._home.backends}",
            "--model-config-name=python",
            f"--backend-config=python,shm-region-prefix-name={self._shared}",
            # Models are loaded on request only: a folder that is being written is never picked up.
            "--model-control-mode=explicit",
            "--load-model=*",
            # Load versions one at a time, oldest first: if they load at the same time, a version that fails shortly
            # before another is ready can crash server 2.51 (docs/explanation/decisions/0004-triton.md).
            "--model-load-thread-count=1",
            # A model that does not load stops neither the other models nor the server.
            "--exit-on-error=false",
            "--strict-readiness=false",
            f"--exit-timeout-secs={STOP_SECONDS}",
            "--allow-gpu-metrics=false",
            f"--grpc-address={self._host}",
            f"--http-address={self._host}",
            f"--metrics-address={self._host}",
            f"--grpc-port={self.grpc_port}",
            f"--http-port={self.http_port}",
            f"--metrics-port={self.metrics_port}",
        ]

    def _rescue(self) -> None:
        """Serve the working versions of models with a broken version: at startup Triton serves none of them."""
        from google.protobuf import json_format

        from sefar_serve.triton_server.repository import older_versions_only

        ready: set[str] = set()
        broken: dict[str, dict[int, str]] = {}
        for entry in self._post("repository/index").json():
            if entry.get("state") == "READY":
                ready.add(entry["name"])
            elif entry.get("state") == "UNAVAILABLE" and entry.get("reason") != "unloaded":
                broken.setdefault(entry["name"], {})[int(entry["version"])] = entry.get("reason", "")
        for name, reasons in broken.items():
            for version, reason in reasons.items():
                log.warning("version %d of %s does not load: %s", version, name, reason.partition("\n")[0])
            config = older_versions_only(self.repository / name, set(reasons)) if name not in ready else None
            if config is not None:
                text = json_format.MessageToJson(config, preserving_proto_field_name=True)
                answer = self._post(f"repository/models/{name}/load", {"parameters": {"config": text}})
                if answer.is_error:
                    log.warning("%s is not served: %s", name, answer.text)

    def _post(self, path: str, body: dict[str, object] | None = None) -> httpx.Response:
        return httpx.post(f"http://{self._host}:{self.http_port}/v2/{path}", json=body or {}, timeout=READY_SECONDS)

    def _live(self) -> bool:
        try:
            return httpx.get(f"http://{self._host}:{self.http_port}/v2/health/live", timeout=1).is_success
        except httpx.TransportError:
            return False

    def _see_log(self) -> str:
        return f"; see {self._log}" if self._log else ""


def free_ports(host: str, *wanted: int) -> list[int]:
    """The given ports, with each 0 replaced by a port that is free now."""
    with ExitStack() as stack:
        ports = []
        for port in wanted:
            if not port:
                probe = stack.enter_context(socket.socket())
                probe.bind((host, 0))
                port = probe.getsockname()[1]
            ports.append(port)
        return ports
