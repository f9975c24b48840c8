from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors import SafetensorError

from sefar_serve.atomic import DiskFullError, WriteError, atomic_file, atomic_folder


def test_a_folder_replaces_another_once_it_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "final"
    for text in ("one", "two"):
        with atomic_folder(folder) as new:
            (new / "sub").mkdir()
            (new / "sub" / "file").write_text(text)
        assert (folder / "sub" / "file").read_text() == text
    assert [path.name for path in folder.parent.iterdir()] == ["final"]


def test_a_failed_write_changes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "final"
    with atomic_folder(folder) as new:
        (new / "file").write_text("whole")
    with pytest.raises(RuntimeError), atomic_folder(folder) as new:
        (new / "file").write_text("half")
        raise RuntimeError
    assert (folder / "file").read_text() == "whole"
    assert list(tmp_path.iterdir()) == [folder]


def test_files_get_the_permissions_of_the_folder(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "final") as new:
        (new / "weights").write_bytes(b"")
        (new / "weights").chmod(0o600)
    mode = (tmp_path / "final").stat().st_mode
    assert (tmp_path / "final" / "weights").stat().st_mode & 0o777 == mode & 0o666


def test_a_file_replaces_another_once_it_is_written(tmp_path: Path) -> None:
    file = tmp_path / "shard"
    for text in ("one", "two"):
        with atomic_file(file) as new:
            new.write_text(text)
        assert file.read_text() == text
    with pytest.raises(RuntimeError), atomic_file(file) as new:
        new.write_text("half")
        raise RuntimeError
    assert file.read_text() == "two"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_named_and_nothing_is_left(tmp_path: Path, error: Exception) -> None:
    for block in (atomic_folder(tmp_path / "final"), atomic_file(tmp_path / "shard")):
        with pytest.raises(DiskFullError, match=f"^{tmp_path} is full; free space, then repeat the command$"), block:
            raise error
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_device_that_is_full_is_named_too(tmp_path: Path) -> None:
    with pytest.raises(DiskFullError), atomic_file(tmp_path / "a") as new:
        new.symlink_to("/dev/full")
        with new.open("wb") as stream:
            np.save(stream, np.zeros(100_000))
    assert not list(tmp_path.iterdir())


def test_errors_name_what_the_user_gave(tmp_path: Path) -> None:
    missing = tmp_path / "no" / "a"
    told = rf"^{missing} cannot be written .*create {missing.parent} first"
    with pytest.raises(WriteError, match=told), atomic_file(missing) as new:
        new.write_text("")
    for code in (errno.EROFS, errno.EACCES):
        told = rf"^{tmp_path / 'final'} cannot be written .*get write permission for {tmp_path}, or choose"
        with pytest.raises(WriteError, match=told), atomic_folder(tmp_path / "final") as new:
            raise OSError(code, os.strerror(code), str(new / "weights"))
    # What the block reads elsewhere is not about the file.
    with pytest.raises(FileNotFoundError, match=r"other\.mp4"), atomic_file(tmp_path / "a"):
        (tmp_path / "elsewhere" / "other.mp4").read_bytes()
