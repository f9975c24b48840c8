"""Fixtures every test may use: the folder of real clips, and artefacts made once a session."""

from __future__ import annotations

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    # The workers share the cores; read when torch and numpy are first imported, also by the processes that tests start.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# A gateway starts decode processes, which takes a second; tests of them, and of whole gateways, ask for them.
os.environ.setdefault("SEFAR_DECODE_IN", "threads")

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from grey_clips import encode_grey_clip
from hypothesis import settings

from sefar_serve.triton_server.server import TritonServer
from sefar_serve.triton_server.wheel import TritonHome, setup

ROOT = Path(__file__).resolve().parent.parent


settings.register_profile("no deadline", deadline=None)  # a busy machine must not fail a test
settings.load_profile("no deadline")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each module runs in one worker, so that what it makes once is made once; so do all that run a Triton server.

    Tests of shared memory run in that worker too, because they look at all of this machine's regions.
    """
    for item in items:
        in_one = {"triton_home", "only_user_of_shared_memory"} & set(getattr(item, "fixturenames", ()))
        group = "triton" if in_one else item.nodeid.partition("::")[0]
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture
def only_user_of_shared_memory() -> None:
    """Tests that use this run one after another, see `pytest_collection_modifyitems`."""


def _made_once(file: Path, make: Callable[[Path], object]) -> Path:
    """A file or folder that the first worker to ask makes, for all of them."""
    file.parent.mkdir(exist_ok=True)
    with FileLock(file.with_suffix(".lock")):
        if not file.exists():
            new = file.with_suffix(".new")
            make(new)
            new.rename(file)
    return file


@pytest.fixture(scope="session")
def between_workers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of this run that its workers share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real clips and official files; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("SEFAR_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real clips at {folder}; set SEFAR_SHARED_DATA to the folder that holds them")
    return folder


@pytest.fixture(scope="session")
def dark_clip() -> bytes:
    """24 dark frames; the fake engine answers class 0."""
    return encode_grey_clip([20] * 24)


@pytest.fixture(scope="session")
def bright_clip() -> bytes:
    """24 bright frames; the fake engine answers class 2."""
    return encode_grey_clip([230] * 24)


@pytest.fixture(scope="session")
def untrained_model(between_workers: Path) -> Path:
    """A real ONNX file of the real interface with random weights, exported once."""
    from sefar_training.export import export_untrained

    return _made_once(
        between_workers / "untrained" / "model.onnx", lambda file: export_untrained(file, labels=["a", "b", "c", "d"])
    )


@pytest.fixture(scope="session")
def small_gym(between_workers: Path) -> Path:
    """SynthGym, preset easy, with five training clips of each class, one to validate and one to test; read-only."""
    from sefar_training.synthgym import write_dataset

    counts = {"train": 5, "val": 1, "test": 1}
    return _made_once(
        between_workers / "small" / "gym",
        lambda folder: write_dataset(folder, "easy", 0, counts, workers=1, progress=False),
    )


@pytest.fixture(scope="session")
def triton_home() -> TritonHome:
    """The environment of the wheel's server."""
    return setup()


@pytest.fixture(scope="session")
def triton(
    triton_home: TritonHome, untrained_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TritonServer]:
    """A server that tests leave as they found it."""
    folder = tmp_path_factory.mktemp("triton")
    from sefar_serve.triton_server.repository import publish

    publish(untrained_model, folder / "models")
    with TritonServer(triton_home, folder / "models", log=folder / "log") as server:
        yield server


@pytest.fixture
def own_triton(triton_home: TritonHome, untrained_model: Path, tmp_path: Path) -> Iterator[TritonServer]:
    """A server to be hurt, with a repository to be changed, `own_triton.repository`."""
    from sefar_serve.triton_server.repository import publish

    publish(untrained_model, tmp_path / "models")
    server = TritonServer(triton_home, tmp_path / "models", log=tmp_path / "log")
    server.start()
    yield server
    server.kill()
