from __future__ import annotations

from pathlib import Path

import pytest

from sefar_serve.atomic import atomic_file, atomic_folder


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
    with atomic_folder(folder) as new:
        assert not list(new.iterdir())


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
