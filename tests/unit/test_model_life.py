"""Loading and closing: threads, event loops, forks, pickles, interrupts, and program exit."""

from __future__ import annotations

import asyncio
import copy
import gc
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fake_models import fake_engine, fake_generator, fake_model

import sefar_serve
from sefar_serve.engine import EngineUnavailableError, FakeEngine, ModelLoadError
from sefar_serve.local.background import ModelClosedError
from sefar_serve.model import Model, load
from sefar_serve.settings import Settings, SettingsError, shipped_model

TESTS = Path(__file__).parents[1]


def model_threads() -> list[threading.Thread]:
    # Tests of the gateway in the same process may have started its threads for gzip and for large answers, which stay.
    running = threading.enumerate()
    stay = ("sefar-inflate", "sefar-render")
    return [t for t in running if t.name.startswith("sefar") and not t.name.startswith(stay)]


def until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_with_block_closes(dark_clip: bytes) -> None:
    engine = FakeEngine()
    with fake_model(engine) as model:
        assert model.classify(dark_clip).best.index == 0
        assert engine.started
    assert not engine.started
    assert not model_threads()
    assert "closed" in repr(model)
    for use in (lambda: model.classify(dark_clip), lambda: model.caption([dark_clip]), lambda: model.labels):
        with pytest.raises(ModelClosedError, match="closed; load it again"):
            use()
    model.close()


def test_a_model_that_was_not_used_closes() -> None:
    model = fake_model()
    assert "not loaded yet" in repr(model)
    model.close()
    assert not model_threads()


def test_a_dropped_model_ends_its_threads(dark_clip: bytes) -> None:
    model = fake_model()
    model.classify(dark_clip)
    assert model_threads()
    del model
    gc.collect()
    until(lambda: not model_threads())


def test_results_keep_their_model(dark_clip: bytes) -> None:
    results = fake_model().classify([dark_clip] * 20)
    gc.collect()
    assert [result.best.index for result in results] == [0] * 20  # type: ignore[union-attr]
    del results
    gc.collect()
    until(lambda: not model_threads())


def test_several_threads(dark_clip: bytes, bright_clip: bytes) -> None:
    with fake_model() as model, ThreadPoolExecutor(8) as threads:

        def work(number: int) -> list[int]:
            one = model.classify(bright_clip).best.index
            return [one, *(result.best.index for result in model.classify([dark_clip, bright_clip] * 3))]  # type: ignore[union-attr]

        assert list(threads.map(work, range(16))) == [[2, 0, 2, 0, 2, 0, 2]] * 16


def test_simultaneous_first_calls_load_once(dark_clip: bytes) -> None:
    made: list[FakeEngine] = []

    def slowly(_: Settings) -> FakeEngine:
        time.sleep(0.05)
        made.append(FakeEngine())
        return made[-1]

    with Model(Settings(), engine=slowly) as model, ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: model.classify(dark_clip), range(8)))
    assert len(made) == 1


def test_beside_a_running_event_loop(dark_clip: bytes) -> None:
    async def notebook() -> list[int]:
        with fake_model() as model:
            blocking = model.classify(dark_clip)
            beside = await asyncio.gather(*(asyncio.to_thread(model.classify, dark_clip) for _ in range(4)))
            return [result.best.index for result in (blocking, *beside)]

    assert asyncio.run(notebook()) == [0] * 5


def test_closing_while_another_thread_waits(dark_clip: bytes) -> None:
    engine = FakeEngine(delay=3600)
    model = fake_model(engine)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(model.classify, dark_clip)
        until(lambda: engine.running == 1)
        model.close()
        with pytest.raises(ModelClosedError, match="before it could answer"):
            waiting.result(30)


def test_a_failed_load_is_raised_and_can_be_retried(dark_clip: bytes) -> None:
    class Late(FakeEngine):
        refusals = 1

        async def start(self) -> None:
            if self.refusals:
                self.refusals -= 1
                raise ModelLoadError("not yet")
            await super().start()

    with fake_model(Late()) as model:
        with pytest.raises(ModelLoadError, match="not yet"):
            model.classify(dark_clip)
        until(lambda: not model_threads())
        assert model.classify(dark_clip).best.index == 0


def test_a_pickled_model_is_loaded_once_where_it_is_used(
    dark_clip: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with fake_model(model=Path("model.onnx")) as model:
        pickled = pickle.dumps(model)
    first, second, third = pickle.loads(pickled), pickle.loads(pickled), copy.deepcopy(model)
    try:
        assert first is second is third
        assert first is not model
        assert f"{tmp_path}/model.onnx, not loaded yet" in repr(first)
        assert first.classify(dark_clip).best.index == 0
    finally:
        first.close()
    again = pickle.loads(pickled)
    assert again is not first
    assert again.classify(dark_clip).best.index == 0
    again.close()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # of Python 3.12, for a process with threads
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_worker_processes(dark_clip: bytes, bright_clip: bytes, method: str) -> None:
    videos = [dark_clip, bright_clip] * 4
    with fake_model() as model:
        results = model.classify(videos)
        next(results)
        with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)) as pool:
            found = list(pool.map(model.classify, videos))
        assert [result.best.index for result in found] == [0, 2] * 4
        assert len(list(results)) == 7


def in_a_fork(work: Callable[[], str]) -> str:
    """What `work` returns in a forked process, without pickling anything."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            said = work()
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:  # noqa: PTH123  (a descriptor, not a path)
        said = pipe.read().decode()
    os.waitpid(child, 0)
    return said


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # of Python 3.12, for a process with threads
def test_a_fork_loads_again_and_cannot_continue_earlier_results(dark_clip: bytes) -> None:
    with fake_model() as model:
        results = model.classify([dark_clip] * 3)
        next(results)
        held = model._lock.acquire()  # as if another thread were loading
        try:
            assert in_a_fork(lambda: str(model.classify(dark_clip).best.index)) == "0"
        finally:
            assert held
            model._lock.release()
        assert "before the process forked" in in_a_fork(lambda: str(next(results)))
        assert len(list(results)) == 2


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_real_model_dropped_in_a_fork_does_not_hang(dark_clip: bytes) -> None:
    models = [load()]
    label = models[0].classify(dark_clip).best.label

    def drop() -> str:
        label = models[0].classify(dark_clip).best.label
        models.clear()
        gc.collect()
        return label

    assert in_a_fork(drop) == label
    models[0].close()


PROGRAM = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(TESTS)!r})
from fake_models import fake_model
from sefar_serve.engine import FakeEngine
clip = Path(sys.argv[1]).read_bytes()
"""


def run(program: str, clip: Path, code: int = 0) -> str:
    """Runs a program in which every warning is an error; returns its standard error."""
    command = [sys.executable, "-W", "error", "-c", PROGRAM + program, str(clip)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory, dark_clip: bytes) -> Path:
    path = tmp_path_factory.mktemp("clip") / "dark.mp4"
    path.write_bytes(dark_clip)
    return path


def test_a_program_that_never_closes_ends(clip: Path) -> None:
    assert run("model = fake_model(); model.classify(clip); model.caption(clip)", clip) == ""


def test_a_program_that_exits_between_results_ends(clip: Path) -> None:
    amid = "model = fake_model(); results = model.classify(clip for _ in range(10**9)); next(results)\n"
    assert run(amid, clip) == ""
    assert run(amid + "sys.exit(3)", clip, 3) == ""
    found = run(amid + "raise KeyError('of the program')", clip, 1)
    assert found.rstrip().endswith("KeyError: 'of the program'")
    assert found.count("Traceback") == 1


def test_a_program_that_exits_while_a_model_works_ends(clip: Path) -> None:
    stuck = """
import threading, time
engine = FakeEngine(delay=3600)
model = fake_model(engine)
def work():
    try:
        model.classify(clip)
    except RuntimeError as error:
        print(error, file=sys.stderr)
threading.Thread(target=work).start()
while not engine.running:
    time.sleep(0.01)
"""
    assert run(stuck, clip) == "this model was closed before it could answer\n"


@pytest.mark.parametrize("call", ["model.classify(clip)", "list(model.classify([clip] * 50))"])
def test_an_interrupt_cancels_and_leaves_the_model_usable(clip: Path, call: str) -> None:
    program = f"""
import time
engine = FakeEngine(delay=3600)
model = fake_model(engine)
model.labels
print("ready", flush=True)
try:
    {call}
except KeyboardInterrupt:
    engine.delay = 0
    while engine.running:
        time.sleep(0.01)
    print(model.classify(clip).best.index, flush=True)
"""
    command = [sys.executable, "-W", "error", "-c", PROGRAM + program, str(clip)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.5)  # it waits for the engine, for an hour
        process.send_signal(signal.SIGINT)
        found = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, *found) == (0, "0\n", "")


def test_importing_the_package_is_light() -> None:
    program = """
import sys
before = set(sys.modules)
import sefar_serve
heavy = {"av", "onnxruntime", "httpx", "numpy", "pydantic", "fastapi", "torch", "typer"} & (set(sys.modules) - before)
assert not heavy, heavy
assert {"load", "Model", "Failure"} <= set(dir(sefar_serve))
sefar_serve.load
assert not {"torch", "fastapi", "typer", "onnxruntime"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_the_names_of_the_package() -> None:
    assert sefar_serve.load is load
    assert dir(sefar_serve) == sorted(sefar_serve.__all__)
    errors = [getattr(sefar_serve, name) for name in sefar_serve.__all__ if name.endswith("Error")]
    assert {sefar_serve.ClipError, sefar_serve.EngineError, sefar_serve.UrlError} < set(errors)
    assert all(issubclass(error, sefar_serve.SefarError) for error in errors)
    for name in sefar_serve.__all__:
        assert getattr(sefar_serve, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        sefar_serve.nothing  # noqa: B018


def test_load(dark_clip: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "mine.onnx"
    shutil.copy(shipped_model(), file)
    with load(str(file), device="cpu", decode_threads=1) as model:
        assert len(model.labels) == 36
        assert model.classify(dark_clip).model == model.metadata.name
    monkeypatch.setenv("SEFAR_MODEL", str(file))
    with load() as model:
        assert str(file) in repr(model)
    monkeypatch.setenv("SEFAR_TRITON_URL", "127.0.0.1:9")
    with load(file) as model:  # an explicit file overrides the server in the environment
        assert str(file) in repr(model)


@pytest.mark.parametrize(
    ("given", "settings", "error", "said"),
    [
        ("absent.onnx", {}, ModelLoadError, r"no model file at absent\.onnx"),
        (Path(__file__), {}, ModelLoadError, "cannot be loaded as an ONNX model"),
        ("triton://127.0.0.1:9", {}, EngineUnavailableError, "Triton server at 127.0.0.1:9 cannot be reached"),
        ("grpc://127.0.0.1:9/", {}, EngineUnavailableError, "Triton server at 127.0.0.1:9 cannot be reached"),
        ("http://127.0.0.1:8000", {}, ValueError, r"sefar_client\.Client\('http://127\.0\.0\.1:8000'\)"),
        ("s3://bucket/model.onnx", {}, ValueError, "pass the path of an ONNX file, or triton://host:port"),
        ("", {}, ValueError, "the path of the model is empty"),
        (5, {}, TypeError, "a model must be the path of an ONNX file, or triton://host:port, not int"),
        (None, {"xyz": 3}, TypeError, "unknown setting 'xyz'; the settings are abstain_below, "),
        (None, {"decode_thread": 3}, TypeError, r"unknown setting 'decode_thread'; did you mean decode_threads\?"),
        (None, {"device": "gpu"}, SettingsError, "^device: 'gpu' is not supported; use auto, cpu or cuda$"),
        (None, {"decode_threads": 0}, ValueError, "decode_threads"),
    ],
)
def test_what_cannot_be_loaded(given: Any, settings: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        load(given, **settings)
    until(lambda: not model_threads())


def test_functions_of_workers_can_be_pickled() -> None:
    assert pickle.loads(pickle.dumps((fake_engine, fake_generator))) == (fake_engine, fake_generator)
