"""The models of the study on stick figures: ours, ST-GCN++, and logistic regression."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from clip_sets import clip_set
from stick_figures import figure, turned

from benchmarks.pose_study.clips import ClipSet, StudyError
from benchmarks.pose_study.joints import (
    joints_folder,
    load_joints,
    presence,
    store_controls,
    time_mean,
)
from benchmarks.pose_study.linear import fingerprint, fit_linear, joint_features
from benchmarks.pose_study.trained import Trainer
from sefar_serve.pose.fake import FakeEstimator
from sefar_training.data import JointCache

SHORT = (
    "model.sample_frames=[2, 2, 4]",
    "optim.epochs=8",
    "optim.steps_per_epoch=5",
    "optim.batch_size=8",
    "optim.lr=0.003",
    "semi.start_epoch=2",
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> ClipSet:
    """Figures that raise or lower an arm; their joints are stored in `work` beside them."""
    root = tmp_path_factory.mktemp("figures")
    clips = clip_set(root)
    cache, rng = JointCache(joints_folder(root / "work"), FakeEstimator()), np.random.default_rng(0)
    for file, label in zip(clips.files, clips.labels, strict=True):
        file.path.write_text(f"no video, but {file.path.name}")
        cache.write(file, figure(rng, int(label)))
    store_controls(clips, load_joints(clips, root / "work", FakeEstimator()), root / "work", FakeEstimator())
    return clips


@pytest.fixture(scope="module")
def trainer(figures: ClipSet) -> Trainer:
    return Trainer(figures, figures.root / "work", FakeEstimator(), SHORT)


def right(clips: ClipSet, fold: int, found: np.ndarray) -> float:
    assert found.sum(axis=1) == pytest.approx(1)
    return float((found.argmax(axis=1) == clips.labels[clips.held([fold])]).mean())


@pytest.mark.parametrize("method", ["pose", "pose-sefar"])
def test_our_model_learns(trainer: Trainer, figures: ClipSet, method: str) -> None:
    found = trainer.fit_ours(method, figures.draw(6, (1,), 0), seed=0)
    assert right(figures, 1, found) > 0.8


@pytest.mark.parametrize("method", ["pose-first", "pose-mean"])
def test_controls_see_no_motion(trainer: Trainer, figures: ClipSet, method: str) -> None:
    control = method.removeprefix("pose-")
    stored, _ = JointCache(joints_folder(trainer.work, control), FakeEstimator()).read(figures.files)
    assert {joints.shape for joints in stored.values()} == {(1, 1, 15, 4)}
    assert trainer.fit_ours(method, figures.draw(6, (1,), 0), seed=0).shape == (8, 2)


def test_the_graph_convolution_learns_and_leaves_no_files(trainer: Trainer, figures: ClipSet) -> None:
    # Batch statistics need more steps until their average is of use.
    longer = replace(trainer, overrides=[*SHORT, "optim.steps_per_epoch=12"])
    found = longer.fit_graph("lr=0.01", figures.draw(6, (1,), 0), seed=0)
    assert right(figures, 1, found) > 0.8
    assert {folder.name for folder in trainer.work.iterdir()} == {"joints", "joints-first", "joints-mean"}


def test_the_same_run_gives_the_same_answer(trainer: Trainer, figures: ClipSet) -> None:
    draw = figures.draw(6, (1,), 0)
    short = replace(trainer, overrides=[*SHORT, "optim.epochs=3", "optim.steps_per_epoch=2"])
    runs = [short.fit_graph("lr=0.003", draw, seed) for seed in (0, 0, 1)]
    assert np.array_equal(runs[0], runs[1]) and not np.array_equal(runs[0], runs[2])


def test_a_hash_changes_with_what_the_method_depends_on(trainer: Trainer) -> None:
    def changed(method: str, override: str) -> bool:
        other = replace(trainer, overrides=[*SHORT, override])
        return other.fingerprint(method) != trainer.fingerprint(method)

    methods = ("lr", "rgb", "stgcn", "pose", "pose-sefar")
    table = {
        "optim.lr=0.123": {"pose", "pose-sefar"},
        "optim.epochs=11": {"stgcn", "pose", "pose-sefar"},
        "semi.pseudo_weight=0.123": {"pose-sefar"},
        "joint_views.tilt=1.23": {"stgcn", "pose", "pose-sefar"},
        "model.dropout=0.123": {"pose", "pose-sefar"},
        "method=fixmatch": set(),
    }
    for override, expected in table.items():
        assert {method for method in methods if changed(method, override)} == expected, override


def test_steps_in_epochs_of_another_length_are_the_same_to_the_graph_convolution(trainer: Trainer) -> None:
    halved = ["optim.epochs=16", "optim.warmup_epochs=2", "optim.steps_per_epoch=5", "semi.start_epoch=2"]
    doubled = ["optim.epochs=8", "optim.warmup_epochs=1", "optim.steps_per_epoch=10", "semi.start_epoch=2"]
    one, two = (replace(trainer, overrides=each) for each in (halved, doubled))
    assert one.fingerprint("stgcn") == two.fingerprint("stgcn")
    assert one.fingerprint("pose") != two.fingerprint("pose")


def test_logistic_regression_on_joints(figures: ClipSet) -> None:
    values, draw = joint_features(figures, figures.root / "work", FakeEstimator()), figures.draw(6, (1,), 0)
    assert values.shape == (len(figures.labels), 1, 16 * 45)
    found = fit_linear("lr", "", values, figures.labels, draw.labelled, draw.held)
    assert right(figures, 1, found) > 0.8


def test_frames_are_fitted_with_the_setting(figures: ClipSet) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(len(figures.labels), 2, 16)) + 2 * figures.labels[:, None, None]
    draw = figures.draw(6, (1,), 0)
    found = [fit_linear("rgb", f"C={c}", values, figures.labels, draw.labelled, draw.held) for c in (0.001, 100)]
    assert right(figures, 1, found[1]) > 0.9
    # The smaller C, the less sure.
    assert found[0].max() < found[1].max()
    assert fingerprint("rgb") != fingerprint("lr")


def test_the_mean_over_time_is_of_the_joints_that_the_model_sees() -> None:
    joints = figure(np.random.default_rng(0), 0)
    np.testing.assert_allclose(time_mean(joints), time_mean(turned(joints, 1.0)), atol=1e-5)
    assert time_mean(joints).shape == (1, 1, 15, 4)


def test_presence_counts_frames_and_clips() -> None:
    there, gone = (np.full((4, 1, 15, 4), seen, np.float32) for seen in (1, 0))
    half = np.concatenate([there[:2], gone[:2]])
    assert presence([there, half, gone, gone]) == (6 / 16, 0.5)


def test_clips_that_cannot_be_read_are_named(figures: ClipSet, tmp_path: Path) -> None:
    lost = replace(figures, root=tmp_path)
    with pytest.raises(StudyError, match=r"40 clips cannot be read, among them .*clip0\.mp4"):
        load_joints(lost, tmp_path, FakeEstimator())
