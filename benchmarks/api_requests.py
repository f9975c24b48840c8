"""Requests made from the OpenAPI document, valid and invalid, against a gateway with every route.

Counts what fails the server: an answer with a 5xx status. The short version is a test.

    .venv-dev/bin/python benchmarks/api_requests.py --examples 500
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import uvicorn

from sefar_serve.api import create_app
from sefar_serve.api.connections import bounded_protocol
from sefar_serve.api.server import connection_limits
from sefar_serve.engine import FakeEngine
from sefar_serve.language import FakeGenerator
from sefar_serve.settings import Settings


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=200, help="requests per operation and kind")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(jobs_dir=Path(folder) / "jobs", job_roots=(Path(folder),), max_jobs=1_000_000)
        app = create_app(settings, FakeEngine(), FakeGenerator())
        protocol = bounded_protocol(connection_limits(settings, app.state.gateway.metrics))
        server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", http=protocol))
        thread = threading.Thread(target=server.run)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        command = [
            "run",
            f"{url}/openapi.json",
            "--checks=not_a_server_error",
            "--mode=all",
            "--phases=examples,fuzzing",
        ]
        more = [f"--max-examples={options.examples}", f"--seed={options.seed}", "--suppress-health-check=all"]
        try:
            return subprocess.run([sys.executable, "-m", "schemathesis.cli", *command, *more], cwd=folder).returncode
        finally:
            server.should_exit = True
            thread.join()


if __name__ == "__main__":
    sys.exit(main())
