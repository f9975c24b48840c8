"""The method `linear` on spans of one video."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from small_videos import cut, encode
from stick_figures import figure

from sefar_serve.clip import ClipSpanError, Video
from sefar_serve.lists import ClipKey
from sefar_serve.pose.fake import FakeEstimator
from sefar_training.checkpoint import load_checkpoint
from sefar_training.config import TrainConfig
from sefar_training.data import JointCache, default_joints_folder
from sefar_training.evaluation import evaluate_model
from sefar_training.linear import open_features
from sefar_training.train import train

SPANS = {(None, 0.4): (0, 10), (0.4, 1.2): (10, 30), (1.2, None): (30, 50)}
"""Start and end in seconds, and the frames [first, past) of each."""


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of EfficientNet-Lite0 that are random."""
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("weights") / "lite0.pth"
    torch.save(timm.create_model("tf_efficientnet_lite0").state_dict(), file)
    return file


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A video of 2 s that gets brighter, and lists of its spans, each of which is a class."""
    root = tmp_path / "clips"
    root.mkdir()
    lines = [
        f"bright.mp4,{label},{'' if start is None else start},{'' if end is None else end}"
        for label, (start, end) in enumerate(SPANS)
    ]
    for name in ("train", "test"):
        (root / f"{name}.csv").write_text("\n".join(["path,label,start,end", *lines]))
    return encode(root / "bright.mp4", 50, all_keys=True)


def recipe(clip: Path, out: Path, **fields: object) -> TrainConfig:
    data = {"root": clip.parent, "train": "train.csv", "test": "test.csv", "labels": None, "flip": 0}
    return TrainConfig.model_validate({"method": "linear", "out": out, "data": data} | fields)


def frames_recipe(clip: Path, network: Path, out: Path, **fields: object) -> TrainConfig:
    return recipe(clip, out, init=network, model={"size": 64}, linear={"views": 2}, **fields)


def test_features_of_spans_are_those_of_files_of_their_own(
    clip: Path, network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [ClipKey(clip, *span) for span in SPANS]
    alone = [ClipKey(cut(clip, tmp_path / f"{first}.mp4", first, past)) for first, past in SPANS.values()]
    source, _ = open_features(frames_recipe(clip, network, tmp_path / "run"))
    expected, _ = source.read(alone, progress=False)

    opened = []
    monkeypatch.setattr(
        "sefar_training.data.opened.Video", lambda path, **options: opened.append(path) or Video(path, **options)
    )
    late = ClipKey(clip, 5.0)
    found, errors = source.read([*keys, late], progress=False)
    assert opened == [clip]
    assert list(errors) == [late] and isinstance(errors[late], ClipSpanError)
    for key, file in zip(keys, alone, strict=True):
        np.testing.assert_array_equal(found[key], expected[file])
    assert not np.array_equal(found[keys[0]], found[keys[1]])

    # With the random view; then they are stored.
    views, _ = source.read(keys, 2, progress=False)
    for key in keys:
        np.testing.assert_allclose(views[key][:1], found[key], rtol=1e-2, atol=1e-3)
    assert all(not np.array_equal(views[key][0], views[key][1]) for key in keys)
    opened.clear()
    stored, _ = source.read(keys, 2, progress=False)
    assert not opened and all(np.array_equal(stored[key], views[key]) for key in keys)


def test_a_linear_model_of_frames_trains_on_spans(clip: Path, network: Path, tmp_path: Path) -> None:
    final = train(frames_recipe(clip, network, tmp_path / "run"), progress=False)
    assert load_checkpoint(final)[1].metrics["test"]["top1"] == 1, "whole files would all look the same"
    assert evaluate_model(final, clip.parent / "test.csv", clip.parent, progress=False).top1 == 1


def test_a_linear_model_of_joints_trains_on_spans(clip: Path, tmp_path: Path) -> None:
    cache, rng = JointCache(default_joints_folder(clip.parent), FakeEstimator()), np.random.default_rng(0)
    for label, span in enumerate(SPANS):
        cache.write(ClipKey(clip, *span), figure(rng, label % 2))
    final = train(recipe(clip, tmp_path / "run", model={"stream": "pose"}), progress=False, estimator=FakeEstimator())
    estimator = FakeEstimator()
    report = evaluate_model(final, clip.parent / "test.csv", clip.parent, progress=False, estimator=estimator)
    assert (report.clips, estimator.looks) == (3, 0)
    assert report.top1 == load_checkpoint(final)[1].metrics["test"]["top1"] == 1
