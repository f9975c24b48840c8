"""What users of the gateway see when Triton dies, hangs, or changes or loses its models, with real processes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
import tritonclient.grpc as grpc
from e2e_gateway import GatewayProcess, start_gateway
from redescribed_model import write_redescribed
from tritonclient.utils import InferenceServerException

from sefar_serve.engine.triton.region import FOLDER, PREFIX
from sefar_serve.triton_server.repository import publish
from sefar_serve.triton_server.server import TritonServer, free_ports


@pytest.fixture(params=[False, True], ids=["grpc", "shared memory"])
def gateway(request: pytest.FixtureRequest, own_triton: TritonServer, tmp_path: Path) -> Iterator[GatewayProcess]:
    """A gateway in front of its own Triton server."""
    shared = "true" if request.param else "false"
    started = start_gateway(tmp_path / "gateway.log", *flags(own_triton), env={"SEFAR_TRITON_SHARED_MEMORY": shared})
    yield started
    started.process.terminate()
    started.process.wait(60)


def flags(triton: TritonServer) -> list[str]:
    return ["--triton-url", triton.url, "--triton-timeout", "2"]


def classify(url: str, clip: bytes, **options: str) -> httpx.Response:
    given = {"raw_scores": "true", **options}
    return httpx.post(
        f"{url}/v1/classify", params=given, content=clip, headers={"content-type": "video/mp4"}, timeout=30
    )


def ready(url: str) -> bool:
    return httpx.get(f"{url}/readyz", timeout=5).status_code == 200


def until(condition: Callable[[], bool], seconds: float = 20) -> float:
    """Wait until a condition is true; return the seconds that it took."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, "timed out"
        time.sleep(0.05)
    return time.monotonic() - started


@dataclass
class Load:
    """Answers to clients that send requests without a pause."""

    answers: list[httpx.Response] = field(default_factory=list)

    def statuses(self) -> dict[int, int]:
        return {
            status: sum(a.status_code == status for a in self.answers)
            for status in {a.status_code for a in self.answers}
        }


@contextmanager
def load(url: str, clip: bytes, clients: int = 2) -> Iterator[Load]:
    """Send requests all the time; check that answers are right and that errors have Retry-After."""
    right = scores(classify(url, clip))
    found = Load()
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            found.answers.append(classify(url, clip))
            if found.answers[-1].status_code != 200:
                time.sleep(0.02)

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield found
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    print(found.statuses())
    for answer in found.answers:
        if answer.status_code == 200:
            assert scores(answer) == pytest.approx(right, abs=1e-5)
        if answer.status_code == 503:
            assert int(answer.headers["retry-after"]) >= 1


def scores(answer: httpx.Response) -> list[float]:
    assert answer.status_code == 200, answer.text
    labels = answer.json()["data"][0]["labels"]
    return [label["logit"] for label in sorted(labels, key=lambda label: label["index"])]


def test_triton_killed_and_started_again(gateway: GatewayProcess, own_triton: TritonServer, dark_clip: bytes) -> None:
    with load(gateway.url, dark_clip) as found:
        time.sleep(0.5)
        own_triton.kill()
        flipped = until(lambda: not ready(gateway.url))
        print(f"not ready after {flipped:.2f} s")
        time.sleep(1)
        down = len(found.answers)
        own_triton.start()
        back = until(lambda: ready(gateway.url))
        print(f"ready again {back:.2f} s after Triton was")
        time.sleep(0.5)
    assert set(found.statuses()) == {200, 503}
    assert found.answers[down - 1].status_code == 503
    assert found.answers[-1].status_code == 200


def test_triton_hangs_and_recovers(gateway: GatewayProcess, own_triton: TritonServer, dark_clip: bytes) -> None:
    assert own_triton.process is not None
    os.kill(own_triton.process.pid, signal.SIGSTOP)
    try:
        answer = classify(gateway.url, dark_clip)
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "inference_timeout")
        assert not ready(gateway.url)
    finally:
        os.kill(own_triton.process.pid, signal.SIGCONT)
    until(lambda: ready(gateway.url))
    with load(gateway.url, dark_clip) as found:
        time.sleep(1)
    assert set(found.statuses()) == {200}


def test_new_versions_load_without_losing_a_request(
    gateway: GatewayProcess, own_triton: TritonServer, untrained_model: Path, tmp_path: Path, dark_clip: bytes
) -> None:
    for version in ("2", "3"):
        write_redescribed(untrained_model, tmp_path / version, version=version)
    with grpc.InferenceServerClient(own_triton.url) as triton, load(gateway.url, dark_clip) as found:
        for version in ("2", "3"):
            publish(tmp_path / version, own_triton.repository)
            triton.load_model("sefar_encoder")
            until(lambda v=version: classify(gateway.url, dark_clip).json()["version"] == v)
        until(lambda: httpx.get(f"{gateway.url}/v1/models").json()["data"][0]["version"] == "3")
        assert classify(gateway.url, dark_clip, model="untrained:2").json()["version"] == "2"
    assert set(found.statuses()) == {200}
    assert {answer.json()["version"] for answer in found.answers} == {"1", "2", "3"}


def test_a_broken_version_leaves_the_old_one_serving(
    gateway: GatewayProcess, own_triton: TritonServer, dark_clip: bytes
) -> None:
    right = scores(classify(gateway.url, dark_clip))
    folder = own_triton.repository / "sefar_encoder"
    shutil.copytree(folder / "1", folder / "2")
    (folder / "2" / "model.onnx").write_bytes(b"not a model")
    unavailable = pytest.raises(InferenceServerException, match="version 2 is at UNAVAILABLE")
    with grpc.InferenceServerClient(own_triton.url) as triton, unavailable:
        triton.load_model("sefar_encoder")
    for _ in range(3):
        answer = classify(gateway.url, dark_clip)
        assert scores(answer) == pytest.approx(right, abs=1e-5)
        assert answer.json()["version"] == "1"
        assert ready(gateway.url)
        time.sleep(1)  # the gateway checks the server meanwhile
    refused = classify(gateway.url, dark_clip, model="untrained:2")
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model_not_found")


def test_two_models_and_one_unloaded_during_load(
    gateway: GatewayProcess, own_triton: TritonServer, untrained_model: Path, tmp_path: Path, dark_clip: bytes
) -> None:
    write_redescribed(untrained_model, tmp_path / "model.onnx", name="other", labels=["w", "x", "y", "z"])
    publish(tmp_path / "model.onnx", own_triton.repository, "zother")

    def names() -> set[str]:
        return {model["id"] for model in httpx.get(f"{gateway.url}/v1/models").json()["data"]}

    with grpc.InferenceServerClient(own_triton.url) as triton, load(gateway.url, dark_clip) as found:
        triton.load_model("zother")
        until(lambda: names() == {"untrained", "other"})
        answer = classify(gateway.url, dark_clip, model="other")
        assert {label["label"] for label in answer.json()["data"][0]["labels"]} == {"w", "x", "y", "z"}
        triton.unload_model("zother")
        until(lambda: names() == {"untrained"})
        gone = classify(gateway.url, dark_clip, model="other")
        assert (gone.status_code, gone.json()["error"]["code"]) == (404, "model_not_found")
        assert set(found.statuses()) == {200}
        triton.unload_model("sefar_encoder")
        until(lambda: not ready(gateway.url))
        triton.load_model("sefar_encoder")
        until(lambda: ready(gateway.url))
        time.sleep(0.3)
    assert set(found.statuses()) == {200, 503}
    assert found.answers[-1].status_code == 200


def test_memory_of_a_killed_gateway_is_freed_after_its_restart(
    own_triton: TritonServer, tmp_path: Path, dark_clip: bytes
) -> None:
    def regions() -> set[str]:
        return {path.name for path in FOLDER.glob(f"{PREFIX}*")}

    def registered() -> int:
        with grpc.InferenceServerClient(own_triton.url) as triton:
            return len(triton.get_system_shared_memory_status().regions)

    before = regions()
    with_memory = {"SEFAR_TRITON_SHARED_MEMORY": "true"}
    first = start_gateway(tmp_path / "first.log", *flags(own_triton), env=with_memory)
    threads = [threading.Thread(target=classify, args=(first.url, dark_clip)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    left = regions() - before
    assert left
    first.process.kill()
    first.process.wait()
    assert regions() - before == left
    second = start_gateway(tmp_path / "second.log", *flags(own_triton), env=with_memory)
    assert classify(second.url, dark_clip).status_code == 200
    assert not regions() & left
    second.process.terminate()
    second.process.wait(30)
    assert regions() <= before, "it also frees what others left"
    assert registered() == 0


def test_gateway_starts_before_triton(own_triton: TritonServer, tmp_path: Path, dark_clip: bytes) -> None:
    own_triton.stop()
    log = tmp_path / "gateway.log"
    starting = threading.Thread(target=lambda: found.append(start_gateway(log, *flags(own_triton))))
    found: list[GatewayProcess] = []
    starting.start()
    until(lambda: log.exists() and "retrying" in log.read_text())
    own_triton.start()
    starting.join(60)
    [gateway] = found
    assert classify(gateway.url, dark_clip).status_code == 200
    gateway.process.terminate()
    gateway.process.wait(30)


def test_a_server_started_with_a_broken_version_serves_the_others(own_triton: TritonServer, tmp_path: Path) -> None:
    own_triton.stop()
    folder = own_triton.repository / "sefar_encoder"
    shutil.copytree(folder / "1", folder / "2")
    (folder / "2" / "model.onnx").write_bytes(b"not a model")
    own_triton.start()
    with grpc.InferenceServerClient(own_triton.url) as triton:
        assert triton.is_model_ready("sefar_encoder", "1")
        assert not triton.is_model_ready("sefar_encoder", "2")
        shutil.rmtree(folder / "2")
        triton.load_model("sefar_encoder")
        assert triton.is_model_ready("sefar_encoder", "1")


def test_triton_serve_restarts_a_killed_server_and_stops_on_request(untrained_model: Path, tmp_path: Path) -> None:
    publish(untrained_model, tmp_path / "models")
    ports = free_ports("127.0.0.1", 0, 0, 0)
    names = ("--grpc-port", "--http-port", "--metrics-port")
    flags = [text for name, port in zip(names, ports, strict=True) for text in (name, str(port))]
    command = [sys.executable, "-m", "sefar_serve", "triton", "serve", str(tmp_path / "models"), *flags]
    with (tmp_path / "log").open("wb") as log:
        serving = subprocess.Popen([*command, "--log", str(tmp_path / "triton.log")], stdout=log, stderr=log)

    def live() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{ports[1]}/v2/health/ready", timeout=1).is_success
        except httpx.TransportError:
            return False

    try:
        until(live)
        [server] = [
            int(path.name)
            for path in Path("/proc").glob("[0-9]*")
            if _parent(path) == serving.pid and "tritonserver" in (path / "comm").read_text()
        ]
        time.sleep(7)  # a server that exits sooner is not restarted
        os.kill(server, signal.SIGKILL)
        until(lambda: not live())
        until(live)
        assert "killed by signal 9; restarting it" in (tmp_path / "log").read_text()
    finally:
        serving.terminate()
        assert serving.wait(60) == 0
    assert not live()


def _parent(process: Path) -> int:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except FileNotFoundError:
        return -1
