"""Every block of the documentation that can run does run: shell and Python, in order, page by page."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from doc_blocks import PAGES, ROOT, Block, blocks

from sefar_client import Client
from sefar_training.synthgym import CLASSES, clip_seed, encode_clip, render_clip
from sefar_training.synthgym.routine import write_routine

RUN = ("bash", "console", "python")
DEFAULT_URL = "http://127.0.0.1:8000"
LINKED = ("adapters", "benchmarks", "deploy", "examples", "model_repository", "training")


@dataclass(frozen=True)
class Workspace:
    """What the blocks find: a folder of clips, the command `sefar`, and a gateway at the address the pages name."""

    folder: Path
    path: str
    url: str
    warm: list[str]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """Clips, a process that runs `sefar` quickly, and one gateway for all pages."""
    base = tmp_path_factory.mktemp("docs")
    folder = base / "checkout"
    _write_clips(folder)
    for name in LINKED:
        (folder / name).symlink_to(ROOT / name)
    warm = [sys.executable, str(Path(__file__).with_name("warm_sefar.py")), str(base / "socket")]
    programs = base / "bin"
    programs.mkdir()
    (programs / "sefar").write_text(f'#!/bin/sh\nexec {" ".join(warm)} sefar "$@"\n')
    (programs / "sefar").chmod(0o755)
    path = os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]])
    with _process(warm, base / "warm.log"):
        _wait_for(lambda: (base / "socket").exists(), base / "warm.log")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        serve = [str(programs / "sefar"), "serve", "--port", str(port), "--jobs-dir", str(base / "jobs")]
        with _process([*serve, "--job-roots", str(folder)], base / "gateway.log"):
            url = f"http://127.0.0.1:{port}"
            with Client(url) as client:
                _wait_for(client.ready, base / "gateway.log")
            yield Workspace(folder, path, url, warm)


def _write_clips(folder: Path) -> None:
    """Clips under the names that the pages use, rendered once."""
    (folder / "videos").mkdir(parents=True)
    (folder / "demo" / "clips").mkdir(parents=True)
    names = ["clip.mp4", "a.mp4", "b.mp4", "vault.mp4", "dive.mp4", "demo/clips/clip_03.mp4"]
    names += [f"videos/clip_{number:02d}.mp4" for number in (3, 9, 20)]
    for number, name in enumerate(names):
        action = CLASSES[int(name[-6:-4])] if "/" in name else CLASSES[number]
        encode_clip(render_clip(action, clip_seed(0, "demo", action, 0), "standard"), folder / name)
    write_routine(folder / "meet.mp4", 0, actions=3)


@contextmanager
def _process(command: list[str], log: Path) -> Iterator[None]:
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        yield
        process.terminate()


def _wait_for(ready: Callable[[], bool], log: Path) -> None:
    for _ in range(3000):
        if ready():
            return
        time.sleep(0.1)
    raise AssertionError(log.read_text())


def _pages() -> list[object]:
    found = [(page, [block for block in blocks(page) if block.language in RUN]) for page in PAGES]
    return [
        pytest.param(all_, id=str(page.relative_to(ROOT)))
        for page, all_ in found
        if any(block.not_run is None for block in all_)
    ]


@pytest.mark.parametrize("page", _pages())
def test_the_blocks_of_a_page_run(page: list[Block], workspace: Workspace, tmp_path: Path) -> None:
    for file in workspace.folder.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "videos").unlink()
    (tmp_path / "videos").mkdir()
    for video in (workspace.folder / "videos").iterdir():
        (tmp_path / "videos" / video.name).hardlink_to(video)
    with _python(workspace, tmp_path) as run_python:
        for block in page:
            if block.not_run is None:
                code = block.code.replace(DEFAULT_URL, workspace.url)
                if block.language == "python":
                    run_python(block, code)
                else:
                    _run_shell(block, code, workspace, tmp_path)


@contextmanager
def _python(workspace: Workspace, folder: Path) -> Iterator[Callable[[Block, str], None]]:
    """One Python session for the blocks of a page, in which later ones know the names of earlier ones."""
    log = folder / "python.log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [*workspace.warm, "blocks"],
            cwd=folder,
            env=os.environ | {"PATH": workspace.path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
        ) as session,
    ):
        assert session.stdin is not None
        assert session.stdout is not None
        write, read = session.stdin, session.stdout

        def run(block: Block, code: str) -> None:
            # Lines before the block are empty, so that a traceback has the page's line numbers.
            print(json.dumps([str(block.page), "\n" * (block.line - 1) + code]), file=write, flush=True)
            assert read.readline() == "\n", f"{block.page.relative_to(ROOT)}:{block.line}\n{log.read_text()[-3000:]}"

        yield run


def _run_shell(block: Block, code: str, workspace: Workspace, folder: Path) -> None:
    if block.language == "console":
        code = "\n".join(line[2:] for line in code.splitlines() if line.startswith("$ "))
    environment = os.environ | {"PATH": workspace.path, "COLUMNS": "120"}
    # curl writes an error's body and ends with 0, unless told to fail.
    code = re.sub(r"\bcurl (?!-f)", "curl -f ", code)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", code],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    said = f"{block.page.relative_to(ROOT)}:{block.line}\n{code}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    assert done.returncode == 0, said


def test_every_block_that_is_not_run_says_why() -> None:
    reasons = {block.not_run for page in PAGES for block in blocks(page) if block.language in RUN}
    assert all(reason is None or len(reason.split()) > 1 for reason in reasons)
    for page in PAGES:
        comments = re.findall(r"^<!-- not run:", page.read_text(encoding="utf-8"), re.MULTILINE)
        marked = [block for block in blocks(page) if block.not_run is not None]
        assert len(comments) == len(marked), f"{page}: a comment `<!-- not run: … -->` is not right above a block"
