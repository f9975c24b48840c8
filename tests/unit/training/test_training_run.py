from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sefar_training.checkpoint import load_checkpoint, read_info
from sefar_training.config import TrainConfig
from sefar_training.evaluation import evaluate_model
from sefar_training.export import export_checkpoint
from sefar_training.recipe import RecipeError
from sefar_training.synthgym import POSE_NAMES
from sefar_training.synthgym.pretext import PoseFileError
from sefar_training.train import train


@pytest.fixture(scope="module")
def lists(small_gym: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lists of twenty clips each."""
    folder = tmp_path_factory.mktemp("lists")
    for file in (small_gym / "lists" / "synthgym_100").glob("*.csv"):
        # Clips of one class follow each other; every fifth one takes several classes.
        lines = file.read_text().splitlines(keepends=True)
        (folder / file.name).write_text("".join(lines[:: 5 if file.stem == "train" else 1][:20]))
    return folder


def config(gym: Path, lists: Path, out: Path, **changes: Any) -> TrainConfig:
    fields: dict[str, Any] = {
        "out": out,
        "data": {
            "name": "synthgym",
            "root": gym,
            "train": lists / "train.csv",
            "val": lists / "val.csv",
            "test": lists / "test.csv",
            "classes": "classes.json",
            "poses": "poses/train.npz",
            "cache_gb": 1,
        },
        "optim": {"epochs": 1, "batch_size": 10},
    }
    return TrainConfig.model_validate(fields | changes)


def test_pretext_then_classes_then_one_file(small_gym: Path, lists: Path, tmp_path: Path) -> None:
    pretext = train(config(small_gym, lists, tmp_path / "pretext", task="pretext"), progress=False)
    assert read_info(pretext).metrics["last_epoch"]["loss"] > 0

    final = train(config(small_gym, lists, tmp_path / "tiny", init=pretext), progress=False)
    assert final == tmp_path / "tiny" / "final"
    model, info = load_checkpoint(final)
    assert info.labels == tuple((small_gym / "labels.txt").read_text().splitlines())
    assert len(info.attributes) == len(info.opposites) == len(info.labels)
    assert info.recipe is not None and info.recipe["init"] == str(pretext)
    before, _ = load_checkpoint(pretext)
    assert not torch.equal(model.backbone.pos_embed, before.backbone.pos_embed)
    (line,) = map(json.loads, (tmp_path / "tiny" / "log.jsonl").read_text().splitlines())
    figures = {"top1", "top5", "opposite_pairs"}
    assert set(line) == {"epoch", "loss", "loss_sup", "accuracy", "lr", "seconds"} | figures | {
        f"student_{name}" for name in figures
    }

    test = lists / "test.csv"
    report = evaluate_model(final, test, small_gym, progress=False)
    assert report.model_dump() == info.metrics["test"]
    file = export_checkpoint(final, tmp_path / "model.onnx").path
    shipped = evaluate_model(file, test, small_gym, progress=False)
    assert shipped.clips == report.clips == len(test.read_text().splitlines())
    assert shipped.top5 == pytest.approx(report.top5, abs=1.5 / report.clips)


def test_run_does_not_depend_on_workers_or_cache(small_gym: Path, lists: Path, tmp_path: Path) -> None:
    ends = []
    for name, workers, cache in [("a", 0, 1), ("b", 1, 0)]:
        recipe = config(small_gym, lists, tmp_path / name)
        data = recipe.data.model_copy(update={"workers": workers, "cache_gb": cache, "val": None, "test": None})
        ends.append(train(recipe.model_copy(update={"data": data}), progress=False))
    a, b = (load_checkpoint(end)[0].state_dict() for end in ends)
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_clip_without_pose_is_named(small_gym: Path, lists: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "poses.npz", **{"videos/other.mp4": np.zeros((3, len(POSE_NAMES)), np.float16)})
    recipe = config(small_gym, lists, tmp_path / "run", task="pretext")
    data = recipe.data.model_copy(update={"poses": tmp_path / "poses.npz"})
    with pytest.raises(PoseFileError, match=r"has no pose for videos/train/.*\.mp4"):
        train(recipe.model_copy(update={"data": data}), progress=False)


def test_tasks_that_do_not_fit_are_named(small_gym: Path, lists: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no task 'guess'; choose one of classify, pretext"):
        train(config(small_gym, lists, tmp_path / "run", task="guess"), progress=False)
    recipe = config(small_gym, lists, tmp_path / "run", task="pretext")
    without = recipe.model_copy(update={"data": recipe.data.model_copy(update={"poses": None})})
    with pytest.raises(RecipeError, match=r"task pretext needs data\.poses"):
        train(without, progress=False)
