"""What a recipe's stream makes of its clips."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small_videos import encode
from stick_figures import write_figures

from sefar_serve.pose.fake import FakeEstimator
from sefar_training.config import TrainConfig
from sefar_training.data import BrokenClipsError, InputViews, ListFileError, MissingClipsError, StrongView, WeakView
from sefar_training.inputs import FrameInputs, JointInputs, create_inputs, read_entries


def recipe(root: Path, stream: str, **data: Any) -> TrainConfig:
    fields = {
        "out": root / "run",
        "model": {"stream": stream},
        "data": {"root": root, "train": "train.csv", "strong": 0.5} | data,
        "optim": {"epochs": 1},
    }
    return TrainConfig.model_validate(fields)


@pytest.mark.parametrize(("strong", "view"), [(False, WeakView), (True, StrongView)])
def test_labelled_frames_are_shown_in_the_strong_view_if_asked_for(tmp_path: Path, strong: bool, view: type) -> None:
    encode(tmp_path / "a.mp4", 12)
    (tmp_path / "train.csv").write_text("a.mp4 0\n")
    inputs = create_inputs(recipe(tmp_path, "rgb", strong_labelled=strong), progress=False)
    assert isinstance(inputs, FrameInputs) and inputs.views == InputViews()
    clips = inputs.labelled(Path("train.csv"))
    assert type(clips.view) is view
    assert clips[0, 0]["inputs"].shape == (8, 64, 64, 3)


def test_labelled_joints_are_shown_in_the_strong_view_if_asked_for(tmp_path: Path) -> None:
    write_figures(tmp_path, {"train": 2})
    weak, strong = (
        create_inputs(recipe(tmp_path, "pose", strong_labelled=asked), progress=False, estimator=FakeEstimator())
        for asked in (False, True)
    )
    assert isinstance(weak, JointInputs) and isinstance(strong, JointInputs)
    assert weak.views.labelled == weak.views.weak != weak.views.strong
    assert strong.views.labelled == strong.views.strong
    assert weak.labelled(Path("train.csv")).cut == 0 < strong.labelled(Path("train.csv")).cut


@pytest.mark.parametrize("stream", ["rgb", "pose"])
def test_missing_clips_are_all_named_and_told_from_broken_ones(tmp_path: Path, stream: str) -> None:
    for number in range(3):
        (tmp_path / f"{number}.mp4").write_text(f"no video, but {number}")
    (tmp_path / "train.csv").write_text("x.mp4 0\n0.mp4 0\ny.mp4 1\n1.mp4 0\n2.mp4 0\n")
    inputs = create_inputs(recipe(tmp_path, stream, cache_gb=1), progress=False, estimator=FakeEstimator())
    with pytest.raises(MissingClipsError, match=r"2 of 5 clips of train\.csv do not exist: x\.mp4, y\.mp4; the first"):
        inputs.labelled(Path("train.csv"))
    (tmp_path / "train.csv").write_text("0.mp4 0\n1.mp4 0\n2.mp4 0\n")
    told = {"rgb": "1 clip does not decode", "pose": r"3 clips do not decode.*: 0\.mp4, 1\.mp4, 2\.mp4; last error"}
    with pytest.raises(BrokenClipsError, match=told[stream]):
        inputs.labelled(Path("train.csv"))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, r"data\.train: the list .*train\.csv does not exist; write it, or set data\.train or data\.root"),
        ({"val": "val.csv"}, r"data\.val: .* To train without a val list: data\.val=null"),
        ({"unlabel": "more.csv"}, r"data\.unlabel: .* To train without unlabelled clips: method=supervised"),
    ],
)
def test_a_list_that_does_not_exist_is_named_with_its_key(tmp_path: Path, changes: dict[str, str], told: str) -> None:
    config = recipe(tmp_path, "rgb", **changes)
    with pytest.raises(ListFileError, match=told):
        read_entries(config, Path(next(iter(changes.values()), "train.csv")))


def test_progress_bars_of_joints_name_the_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    encode(tmp_path / "a.mp4", 12)
    (tmp_path / "train.csv").write_text("a.mp4 0\n")
    create_inputs(recipe(tmp_path, "pose"), estimator=FakeEstimator()).labelled(Path("train.csv"))
    assert "finding joints of train.csv" in capsys.readouterr().err


def test_strengths_of_views_are_the_recipes(tmp_path: Path) -> None:
    config = TrainConfig.model_validate(
        recipe(tmp_path, "pose", flip=0.25).model_dump()
        | {"joint_views": {"scale": 0.2, "tilt": 1, "yaw": 2, "strong_tilt": 3, "strong_noise": 0.4}}
    )
    views = JointInputs(config, FakeEstimator(), progress=False).views
    assert (views.weak.flip, views.weak.scale, views.weak.tilt, views.weak.yaw) == (0.25, 0.2, 1, 2)
    assert (views.weak.noise, views.weak.drop, views.weak.stretch) == (0, 0, 0)
    assert (views.strong.flip, views.strong.scale, views.strong.tilt, views.strong.noise) == (0.25, 0.2, 3, 0.4)
    assert views.strong.yaw == config.joint_views.strong_yaw
