"""What can be passed as a video, and the errors for what cannot."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from fake_models import fake_model

from sefar_client import Failure
from sefar_serve.clip import NotAVideoError
from sefar_serve.fetch import UrlFetchError, UrlNotAllowedError
from sefar_serve.model import Model


@pytest.fixture(scope="module")
def model() -> Iterator[Model]:
    with fake_model() as model:
        yield model


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, bright_clip: bytes) -> Path:
    path = tmp_path_factory.mktemp("videos") / "bright.mp4"
    path.write_bytes(bright_clip)
    return path


class Named:
    """A path that is not a `Path`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __fspath__(self) -> str:
        return str(self._path)


@pytest.mark.parametrize("given", [str, Path, Named], ids=["str", "Path", "PathLike"])
def test_a_path(model: Model, path: Path, given: Callable[[Path], Any]) -> None:
    result = model.classify(given(path))
    assert (result.name, result.best.index) == ("bright.mp4", 2)


@pytest.mark.parametrize("given", [bytes, bytearray, memoryview, io.BytesIO])
def test_the_bytes_of_a_file(model: Model, path: Path, given: Callable[[bytes], Any]) -> None:
    result = model.classify(given(path.read_bytes()))
    assert (result.name, result.best.index) == ("video", 2)


def test_an_open_file_is_read_from_its_start_and_stays_open(model: Model, path: Path) -> None:
    with path.open("rb") as file:
        file.seek(100)
        assert model.classify(file).name == "bright.mp4"
        assert model.classify(file).best.index == 2


def test_a_pipe(model: Model, bright_clip: bytes) -> None:
    reading, writing = os.pipe()

    def write() -> None:
        with open(writing, "wb") as pipe:  # noqa: PTH123  (a descriptor, not a path)
            pipe.write(bright_clip)

    thread = threading.Thread(target=write)
    thread.start()
    with open(reading, "rb") as pipe:  # noqa: PTH123
        assert model.classify(pipe).best.index == 2
    thread.join()


async def _asynchronously() -> AsyncIterator[bytes]:
    yield b""


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (7, "must be a path, bytes or a file opened with mode 'rb', or an iterable of these, not int"),
        (None, "not NoneType"),
        (io.StringIO(), "opened as text; open it with mode 'rb'"),
        (_asynchronously(), "asynchronous iterable"),
    ],
)
def test_what_cannot_be_a_video(model: Model, given: Any, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        model.classify(given)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (
            "https://user:secret@example.com:8443/a.mp4?x=1",
            r"^example\.com:8443 is not an allowed host; .* `url_hosts` \(SEFAR_URL_HOSTS\) to 'example",
        ),
        ("HTTP://example.com", r"`url_hosts` \(SEFAR_URL_HOSTS\) to 'example\.com'"),
        ("s3://bucket/a.mp4", "s3:// is not supported; .* fsspec"),
        ("data:video/mp4;base64,AAAA", "decode the base64 and pass the bytes"),
        ("sefar://clip_1", "pass the video itself"),
    ],
)
def test_urls_are_refused_unless_allowed(model: Model, url: str, said: str) -> None:
    with pytest.raises(UrlNotAllowedError, match=said) as refused:
        model.classify(url)
    assert "secret" not in str(refused.value)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""


def test_a_url_of_an_allowed_host_is_fetched(path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(path.parent))) as server:
        threading.Thread(target=server.serve_forever).start()
        host = f"127.0.0.1:{server.server_port}"
        with fake_model(url_hosts=host) as model:
            found = model.classify(f"http://{host}/bright.mp4?size=full")
            [refused] = model.classify([f"http://{host}/absent.mp4"])
        server.shutdown()
    assert (found.name, found.best.index) == ("bright.mp4", 2)
    assert isinstance(refused, Failure)
    assert isinstance(refused.error, UrlFetchError)
    assert "404" in str(refused)


def test_errors_name_the_video_as_the_caller_passed_it(model: Model, tmp_path: Path) -> None:
    notes = tmp_path / "notes.mp4"
    notes.write_text("not a video " * 50)
    with pytest.raises(NotAVideoError, match=f"^{notes} is not a video"):
        model.classify(notes)
    with pytest.raises(NotAVideoError, match=r"^video of 600 bytes is not a video"):
        model.classify(notes.read_bytes())
    with pytest.raises(FileNotFoundError, match=r"absent\.mp4"):
        model.classify(tmp_path / "absent.mp4")
    with pytest.raises(IsADirectoryError, match=str(tmp_path)):
        model.classify(tmp_path)


def test_local_files_may_be_larger_than_a_request(path: Path) -> None:
    with fake_model(max_body_bytes=100) as model:
        assert model.classify(path).best.index == 2


def test_an_empty_path_is_not_a_video(dark_clip: bytes) -> None:
    with fake_model() as model:
        with pytest.raises(NotAVideoError, match="the path of the video is empty"):
            model.classify("")
        first, empty, last = model.classify([dark_clip, "", dark_clip])
    assert isinstance(empty, Failure)
    assert not isinstance(first, Failure)
    assert not isinstance(last, Failure)
