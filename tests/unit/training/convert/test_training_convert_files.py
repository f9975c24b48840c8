from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from release_files import released, save_release

from sefar_training.convert import ConversionError, convert
from sefar_training.convert.convert import detect
from sefar_training.model import SefarModel


class Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path(self.mark),))

    def __init__(self, mark: Path) -> None:
        self.mark = str(mark)


def test_code_in_a_file_is_not_run(small_model: Callable[..., SefarModel], tmp_path: Path) -> None:
    file = save_release(tmp_path / "a.pyth", released(small_model()), cfg=Code(tmp_path / "ran"))
    with pytest.raises(ConversionError, match=r"a\.pyth contains code .* was not opened"):
        convert(file, tmp_path / "out", num_heads=3)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kept", [0.0, 0.001, 0.02, 0.5, 0.99])
def test_truncated_file_is_named(
    small_model: Callable[..., SefarModel], tmp_path: Path, kept: float, zipped: bool
) -> None:
    file = tmp_path / "a.pyth"
    torch.save({"model_state": released(small_model())}, file, _use_new_zipfile_serialization=zipped)
    whole = file.read_bytes()
    convert(file, tmp_path / "out", num_heads=3)
    file.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(ConversionError, match=r"a\.pyth is (damaged|not a checkpoint)"):
        convert(file, tmp_path / "again", num_heads=3)
    assert not (tmp_path / "again").exists()


def test_other_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "text.pyth").write_text("epoch: 29")
    with pytest.raises(ConversionError, match=r"text\.pyth is not a checkpoint: it was written by neither"):
        convert(tmp_path / "text.pyth", tmp_path / "out")
    torch.save([1, 2], tmp_path / "list.pyth")
    with pytest.raises(ConversionError, match="no mapping from names to tensors at the top level or under model_state"):
        convert(tmp_path / "list.pyth", tmp_path / "out")
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pyth")
    with pytest.raises(ConversionError, match=r"no tensor name begins with vit\.model\."):
        convert(tmp_path / "other.pyth", tmp_path / "out")
    (tmp_path / "bad.safetensors").write_bytes(b"not weights")
    with pytest.raises(ConversionError, match=r"bad\.safetensors is damaged or not a safetensors file"):
        convert(tmp_path / "bad.safetensors", tmp_path / "out")
    with pytest.raises(ConversionError, match=r"gone\.pyth does not exist"):
        convert(tmp_path / "gone.pyth", tmp_path / "out", "sefar")
    with pytest.raises(ConversionError, match=r"is not a file or folder, not a timm model name"):
        convert("nowhere", tmp_path / "out")
    with pytest.raises(ConversionError, match="no format 'keras'; choose one of sefar, timm, timesformer"):
        convert(tmp_path / "list.pyth", tmp_path / "out", "keras")  # type: ignore[arg-type]


def test_only_a_checkpoint_is_replaced(small_model: Callable[..., SefarModel], tmp_path: Path) -> None:
    file = save_release(tmp_path / "a.pyth", released(small_model()))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    for out in (tmp_path / "mine", tmp_path, file):
        with pytest.raises(ConversionError, match="exists and is not a checkpoint"):
            convert(file, out, num_heads=3)
    (tmp_path / "out").mkdir()
    for _ in range(2):
        convert(file, tmp_path / "out", num_heads=3)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["config.json", "model.safetensors"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pyth", "mine", "out"]
    with pytest.raises(ConversionError, match="is already a checkpoint of this project"):
        detect(str(tmp_path / "out"))
