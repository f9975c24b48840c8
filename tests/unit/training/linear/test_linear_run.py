"""The method `linear` from recipe to ONNX file, on frames and on joints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from small_videos import encode
from stick_figures import write_figures

from sefar_serve.pose.fake import FakeEstimator
from sefar_training.checkpoint import load_checkpoint
from sefar_training.config import TrainConfig
from sefar_training.data import BrokenClipsError
from sefar_training.evaluation import evaluate_model, onnx_predictor
from sefar_training.export import export_checkpoint
from sefar_training.linear import load_network
from sefar_training.loop import RunError
from sefar_training.train import train
from sefar_training.typical import load_typical
from sefar_training.weights import WeightsError


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of EfficientNet-Lite0 that are random."""
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("weights") / "lite0.pth"
    torch.save(timm.create_model("tf_efficientnet_lite0").state_dict(), file)
    return file


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of two classes: pictures get brighter slowly or fast."""
    root = tmp_path_factory.mktemp("videos")
    for name, count in {"train": 8, "test": 4}.items():
        lines = []
        for number in range(count):
            label = number % 2
            encode(root / f"{name}{number}.mp4", 12, brightness=5 * number, step=1 + 11 * label)
            lines.append(f"{name}{number}.mp4 {label}\n")
        (root / f"{name}.csv").write_text("".join(lines))
    (root / "labels.txt").write_text("slow\nfast\n")
    return root


def recipe(root: Path, out: Path, **changes: Any) -> TrainConfig:
    fields: dict[str, Any] = {"method": "linear", "out": out, "data": {"root": root, "train": "train.csv"}}
    fields["data"] |= {"test": "test.csv", "flip": 0} | changes.pop("data", {})
    return TrainConfig.model_validate(fields | changes)


def frames_recipe(videos: Path, network: Path, out: Path, **changes: Any) -> TrainConfig:
    return recipe(videos, out, init=network, model={"size": 64}, linear={"views": 2}, **changes)


def test_frames_from_recipe_to_file(videos: Path, network: Path, tmp_path: Path) -> None:
    config = frames_recipe(videos, network, tmp_path / "run")
    assert (config.model.resize, config.model.sample_frames, config.model.layout) == (64, (1,) * 8, "ordered")
    final = train(config, progress=False)
    model, info = load_checkpoint(final)
    assert info.metrics["test"]["top1"] == 1
    exported = export_checkpoint(final, tmp_path / "model.onnx")
    assert max(exported.differences.values()) < 1e-3
    predict, about = onnx_predictor(exported.path)
    assert (about.name, about.labels, about.layout) == (f"sefar-{videos.name}-linear", ("slow", "fast"), "ordered")
    assert (about.token_dim, about.embedding_dim) == (1280, 256)
    assert evaluate_model(exported.path, videos / "test.csv", videos, progress=False).top1 == 1
    # Monte-Carlo samples differ, or η would always be 1.
    scores = predict(np.zeros((1, 8, 64, 64, 3), np.uint8))
    assert scores.mc_logits.std(axis=1).min() > 0
    assert not model.training and not model.backbone.train().training


def test_a_val_list_calibrates(videos: Path, network: Path, tmp_path: Path) -> None:
    lines = (videos / "train.csv").read_text() + (videos / "test.csv").read_text()
    (videos / "val.csv").write_text(lines)
    final = train(frames_recipe(videos, network, tmp_path / "run", data={"val": "val.csv"}), progress=False)
    _, info = load_checkpoint(final)
    assert info.temperature is not None and info.temperature != 1
    plain = load_checkpoint(train(frames_recipe(videos, network, tmp_path / "plain"), progress=False))[0]
    scaled = load_checkpoint(final)[0].head.classifier.weight * info.temperature
    assert torch.allclose(scaled, plain.head.classifier.weight, atol=1e-5)
    about = onnx_predictor(export_checkpoint(final, tmp_path / "model.onnx").path)[1]
    assert about.temperature == info.temperature
    assert about.familiarity is not None and (about.familiarity.clips, about.familiarity.held_out) == (8, 12)
    # The reference has the features of the served view: clips that are in it are near it.
    typical = load_typical(final)
    assert typical is not None
    predict, _ = onnx_predictor(tmp_path / "model.onnx")
    assert typical.reference.shape == (8, 1280)
    shown = predict(np.zeros((1, 8, 64, 64, 3), np.uint8)).mean_tokens
    assert typical.distance(shown)[0] > typical.distances[-2]


def test_features_are_described_once(
    videos: Path, network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "videos"
    root.mkdir()
    for file in videos.iterdir():
        if file.is_file():
            (root / file.name).write_bytes(file.read_bytes())
    first = train(frames_recipe(root, network, tmp_path / "a"), progress=False)
    stored = sorted((root / ".sefar" / "features").glob("*.npy"))
    assert len(stored) == 8 * 2
    stored[0].write_bytes(b"damaged")

    described = []
    from sefar_training.linear.features import FrameFeatures

    frames = FrameFeatures._frames
    monkeypatch.setattr(
        FrameFeatures, "_frames", lambda self, clip, *rest: described.append(clip.path) or frames(self, clip, *rest)
    )
    second = train(frames_recipe(root, network, tmp_path / "b"), progress=False)
    assert len(described) == 1
    a, b = (load_checkpoint(folder)[0].state_dict() for folder in (first, second))
    assert all(torch.equal(a[name], b[name]) for name in a)
    # A renamed file has the same features, a changed one has others.
    (root / "train1.mp4").rename(root / "renamed.mp4")
    (root / "train.csv").write_text((root / "train.csv").read_text().replace("train1.mp4", "renamed.mp4"))
    encode(root / "train0.mp4", 12, brightness=90)
    described.clear()
    train(frames_recipe(root, network, tmp_path / "c"), progress=False)
    assert described == [root / "train0.mp4"]


def test_a_clip_that_does_not_decode_stops_the_run_unless_allowed(videos: Path, network: Path, tmp_path: Path) -> None:
    (videos / "broken.mp4").write_bytes(b"no video")
    (videos / "more.csv").write_text((videos / "train.csv").read_text() + "broken.mp4 1\n")
    with pytest.raises(BrokenClipsError, match=r"broken\.mp4"):
        train(frames_recipe(videos, network, tmp_path / "a", data={"train": "more.csv"}), progress=False)
    allowed = {"train": "more.csv", "max_broken": 1}
    train(frames_recipe(videos, network, tmp_path / "b", data=allowed), progress=False)


def test_a_run_of_another_method_is_not_replaced(videos: Path, network: Path, tmp_path: Path) -> None:
    (tmp_path / "state.pt").write_bytes(b"")
    with pytest.raises(RunError, match="holds a run of another method; set out to another folder"):
        train(frames_recipe(videos, network, tmp_path), progress=False)


def test_joints_from_recipe_to_file(tmp_path: Path) -> None:
    figures = tmp_path / "figures"
    figures.mkdir()
    write_figures(figures, {"train": 12, "test": 20})
    config = recipe(figures, tmp_path / "run", model={"stream": "pose"}, linear={"c": "choose"})
    assert config.model.sampling.frames == 16
    final = train(config, progress=False, estimator=FakeEstimator())
    info = load_checkpoint(final)[1]
    assert info.metrics["test"]["top1"] > 0.9
    assert info.metrics["c"] in (1, 3, 10, 30, 100, 300)
    exported = export_checkpoint(final, tmp_path / "model.onnx")
    report = evaluate_model(exported.path, figures / "test.csv", figures, progress=False, estimator=FakeEstimator())
    assert report.top1 == info.metrics["test"]["top1"]
    _, about = onnx_predictor(exported.path)
    assert (about.stream, about.estimator, about.token_dim) == ("pose", FakeEstimator.name, 45)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"method": "supervised", "model": {"backbone": "coordinates", "stream": "pose"}}, "frozen and needs method"),
        ({"model": {"backbone": "coordinates"}}, "sees pose, but stream is rgb; set stream to pose"),
        ({"model": {"backbone": "timesformer"}}, "needs a frozen model.backbone, efficientnet-lite0 for stream rgb"),
        ({"model": {"sample_frames": [2, 2, 4]}}, "elements of the same number of frames"),
        ({"task": "pretext"}, "method linear classifies"),
    ],
)
def test_what_does_not_fit_the_method_is_named(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainConfig.model_validate(
            {"method": "linear", "out": tmp_path, "data": {"root": tmp_path, "train": "a"}, "optim": {"epochs": 1}}
            | fields
        )


def test_weights_come_in_timm_s_names_or_order(network: Path, tmp_path: Path) -> None:
    state = torch.load(network, weights_only=True)
    renamed = {f"layer{number}": tensor for number, tensor in enumerate(state.values())}
    torch.save(renamed, tmp_path / "efficientnet-lite0-57934424.pth")
    a = load_network("efficientnet-lite0", (8,), network).state_dict()
    b = load_network("efficientnet-lite0", (8,), tmp_path).state_dict()
    assert all(torch.equal(a[name], b[name]) for name in a)
    torch.save({"other": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"other\.pth does not hold the weights of this network"):
        load_network("efficientnet-lite0", (8,), tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"nowhere\.pth does not exist"):
        load_network("efficientnet-lite0", (8,), tmp_path / "nowhere.pth")
