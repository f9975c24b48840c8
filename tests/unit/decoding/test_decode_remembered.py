"""Large files are remembered by their descriptors too, which is what decode processes get."""

from __future__ import annotations

import io
from pathlib import Path

from sefar_serve.clip import ClipLimits
from sefar_serve.clip.remembered import WORTHWHILE, file_key


def test_a_descriptor_names_the_same_file_as_its_path(tmp_path: Path) -> None:
    file = tmp_path / "long.mp4"
    file.write_bytes(bytes(WORTHWHILE))
    limits = ClipLimits()
    with file.open("rb", buffering=0) as raw:
        assert file_key(raw, limits) == file_key(file, limits) is not None
    assert file_key(io.BytesIO(bytes(WORTHWHILE)), limits) is None
