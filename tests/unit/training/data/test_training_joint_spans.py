"""Joints of spans of one video."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from small_videos import cut

from sefar_serve.clip import ClipSpanError, Video
from sefar_serve.lists import ClipKey
from sefar_serve.pose.fake import FakeEstimator
from sefar_training.checkpoint import read_info
from sefar_training.config import TrainConfig
from sefar_training.data import JointCache
from sefar_training.evaluation import evaluate_model
from sefar_training.train import train

SPANS = {(None, 0.4): (0, 10), (0.4, 1.2): (10, 30), (0.8, None): (20, 75)}
"""Start and end in seconds, and the frames [first, past) of each."""


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A red block, which `FakeEstimator` takes for a person, walks to the right; 3 s of key frames."""
    path = tmp_path / "clips" / "walk.mp4"
    path.parent.mkdir()
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "10", "g": "1"})
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for i in range(75):
            picture = np.full((120, 160, 3), 128, np.uint8)
            picture[30:90, 40 + i : 70 + i] = (220, 30, 30)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def test_joints_of_spans_are_those_of_files_of_their_own(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [ClipKey(clip, *span) for span in SPANS]
    alone = [ClipKey(cut(clip, tmp_path / f"{first}.mp4", first, past)) for first, past in SPANS.values()]
    expected, _ = JointCache(tmp_path / "alone", FakeEstimator()).read(alone, progress=False)

    opened = []
    monkeypatch.setattr(
        "sefar_training.data.opened.Video", lambda path, **options: opened.append(path) or Video(path, **options)
    )
    late = ClipKey(clip, 5.0)
    found, errors = JointCache(tmp_path / "joints", FakeEstimator()).read([*keys, late], progress=False)
    assert opened == [clip]
    assert list(errors) == [late] and isinstance(errors[late], ClipSpanError)
    assert [len(found[key]) for key in keys] == [10, 20, 48]
    for key, file in zip(keys, alone, strict=True):
        np.testing.assert_array_equal(found[key], expected[file])

    again = FakeEstimator()
    stored, _ = JointCache(tmp_path / "joints", again).read(keys, progress=False)
    assert again.looks == 0 and all(np.array_equal(stored[key], found[key]) for key in keys)


def test_a_model_of_joints_trains_on_spans(clip: Path, tmp_path: Path) -> None:
    lines = [
        f"{clip.name},{label},{'' if start is None else start},{'' if end is None else end}"
        for label, (start, end) in zip((0, 1, 0), SPANS, strict=True)
    ]
    for name in ("train", "test"):
        (clip.parent / f"{name}.csv").write_text("\n".join(["path,label,start,end", *lines]))
    config = TrainConfig.model_validate(
        {
            "out": tmp_path / "run",
            "model": {"stream": "pose", "architecture": {"dim": 256, "depth": 0, "heads": 2, "stem": "joints"}},
            "data": {"root": clip.parent, "train": "train.csv", "test": "test.csv", "labels": None},
            "optim": {"epochs": 1, "batch_size": 2, "precision": "fp32"},
        }
    )
    final = train(config, progress=False, estimator=FakeEstimator())
    assert len(list((clip.parent / ".sefar" / "joints").glob("*.npz"))) == 3
    estimator = FakeEstimator()
    found = evaluate_model(final, clip.parent / "test.csv", clip.parent, progress=False, estimator=estimator)
    assert (found.clips, estimator.looks) == (3, 0)
    assert found.top1 == read_info(final).metrics["test"]["top1"]
