"""Joints read from the Parquet files of `sefar extract --poses`, written here in its format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from stick_figures import figure

from sefar_serve.lists import ClipKey
from sefar_serve.pose.fake import FakeEstimator
from sefar_serve.pose.joints import JOINTS
from sefar_serve.sampling import Sampling, sample_indices
from sefar_training.checkpoint import read_info
from sefar_training.config import TrainConfig
from sefar_training.data import (
    EvaluationJoints,
    JointShards,
    ListEntry,
    MissingClipsError,
    MissingPosesError,
    StoredJointsError,
    open_joints,
)
from sefar_training.data.joint_shards import in_time
from sefar_training.evaluation import evaluate_model
from sefar_training.inputs import JointInputs
from sefar_training.train import train

SAMPLING = Sampling((2, 2, 4))
FRAMES, RATE = 24, 25.0


def order() -> np.ndarray:
    return sample_indices(FRAMES, SAMPLING)


def row(clip: Path, joints: np.ndarray | None, **changes: Any) -> dict[str, Any]:
    """A row of a clip of 24 frames, whose joints in every frame are given."""
    chosen = None if joints is None else joints[order()]
    return {
        "id": clip.name,
        "path": str(clip),
        "start": None,
        "end": None,
        "poses": None if chosen is None else chosen.tolist(),
        "frame_times": None if joints is None else (order() / RATE).tolist(),
        "duration": FRAMES / RATE,
        "error": "broken file" if joints is None else None,
    } | changes


def span_row(clip: Path, joints: np.ndarray, start: float, end: float, **changes: Any) -> dict[str, Any]:
    """A row of a span of 24 frames of a video of 3 s, as `sefar extract` writes it for a list."""
    length = min(end, 3.0) - start
    times = (start + order() * length / FRAMES).tolist()
    told = {"id": f"{clip.name}#t={start:g},{end:g}", "start": start, "end": end, "frame_times": times, "duration": 3.0}
    return row(clip, joints, **told | changes)


def write(file: Path, rows: list[dict[str, Any]], number: pa.DataType | None = None, **changes: Any) -> Path:
    """Write a shard; the description is that of `FakeEstimator` and one person."""
    told = {
        "shape": [SAMPLING.frames, 1, len(JOINTS), 4],
        "joints": JOINTS,
        "estimator": FakeEstimator.name,
        "estimator_sha256": FakeEstimator.sha256,
    } | changes
    kind = number or pa.float32()
    for width in reversed(told["shape"]):
        kind = pa.list_(kind, width)
    schema = pa.schema(
        [
            ("id", pa.string()),
            ("path", pa.string()),
            ("start", pa.float64()),
            ("end", pa.float64()),
            ("poses", kind),
            ("frame_times", pa.list_(pa.float64())),
            ("duration", pa.float64()),
            ("error", pa.string()),
        ],
        metadata={"sefar.poses": json.dumps(told)},
    )
    file.parent.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema), file)
    return file


@pytest.fixture
def clips(tmp_path: Path) -> list[Path]:
    made = [tmp_path / f"clip{n}.mp4" for n in range(4)]
    for clip in made:
        clip.write_bytes(b"no video")
    return made


def joints_of(number: int) -> np.ndarray:
    return figure(np.random.default_rng(number), number % 2, FRAMES)


@pytest.mark.parametrize("number", [pa.float32(), pa.float16()])
def test_joints_come_back_in_order_of_time(clips: list[Path], tmp_path: Path, number: pa.DataType) -> None:
    folder = tmp_path / "features"
    write(folder / "part-000000.parquet", [row(clips[1], joints_of(1)), row(clips[0], joints_of(0))], number)
    write(folder / "part-000001.parquet", [row(clips[2], joints_of(2))], number)
    source = open_joints(folder, tmp_path, 1, 8)
    assert isinstance(source, JointShards) and source.origin == (FakeEstimator.name, FakeEstimator.sha256)
    found, errors = source.read(list(map(ClipKey, clips[:3])))
    assert not errors
    for n, clip in enumerate(clips[:3]):
        np.testing.assert_allclose(
            found[ClipKey(clip)], joints_of(n)[np.sort(order())], atol=1e-3 if number == pa.float16() else 0
        )


def test_evaluation_takes_what_the_model_saw(clips: list[Path], tmp_path: Path) -> None:
    write(tmp_path / "features" / "a.parquet", [row(clips[0], joints_of(0))])
    entries = [ListEntry(clips[0].name, clips[0], 0)]
    dataset = EvaluationJoints(entries, SAMPLING, JointShards(tmp_path / "features", tmp_path, 1, 8))
    np.testing.assert_allclose(dataset[0]["inputs"].numpy(), joints_of(0)[order()], atol=1e-6)


def test_clips_that_have_moved_are_found_by_their_ids(clips: list[Path], tmp_path: Path) -> None:
    whole = row(clips[0], joints_of(0), path="/elsewhere/clip0.mp4")
    part = span_row(clips[0], joints_of(1), 1.0, 2.0, path="/elsewhere/clip0.mp4")
    write(tmp_path / "features" / "a.parquet", [whole, part])
    keys = [ClipKey(clips[0]), ClipKey(clips[0], 1.0, 2.0)]
    found, _ = JointShards(tmp_path / "features", tmp_path, 1, 8).read(keys)
    for n, key in enumerate(keys):
        np.testing.assert_array_equal(found[key], joints_of(n)[np.sort(order())])


def test_a_span_needs_a_row_of_its_own(clips: list[Path], tmp_path: Path) -> None:
    rows = [row(clips[0], joints_of(0)), span_row(clips[0], joints_of(1), 0.0, 1.0)]
    rows += [span_row(clips[0], joints_of(2), 2.0, 3.0), span_row(clips[1], joints_of(3), 2.0, 9.0)]
    write(tmp_path / "features" / "a.parquet", rows)
    source = JointShards(tmp_path / "features", tmp_path, 1, 8)
    # The last span ends with the video, at 3 s.
    stored = [ClipKey(clips[0]), ClipKey(clips[0], None, 1.0), ClipKey(clips[0], 2.0, 3.0), ClipKey(clips[1], 2.0, 9.0)]
    found, errors = source.read(stored)
    assert not errors
    for n, key in enumerate(stored):
        np.testing.assert_array_equal(found[key], joints_of(n)[np.sort(order())])
    told = (
        r"has no joints of 2 of 3 clips of a\.csv: .*clip0\.mp4#t=1\.25,2, .*clip1\.mp4; .*with the same start and end"
    )
    with pytest.raises(StoredJointsError, match=told):
        source.read([stored[0], ClipKey(clips[0], 1.25, 2.0), ClipKey(clips[1])], title="a.csv")


def test_failed_rows_are_broken_clips(clips: list[Path], tmp_path: Path) -> None:
    numbers = joints_of(2)
    numbers[3:] = np.nan
    rows = [row(clips[0], joints_of(0)), row(clips[1], None), row(clips[2], numbers), row(clips[3], joints_of(3))]
    write(tmp_path / "features" / "a.parquet", rows)
    source = JointShards(tmp_path / "features", tmp_path, 1, 8)
    keys = list(map(ClipKey, clips))
    found, errors = source.read(keys)
    assert list(found) == [keys[0], keys[3]] and set(errors) == set(keys[1:3])
    np.testing.assert_array_equal(found[keys[3]], joints_of(3)[np.sort(order())])
    assert str(errors[keys[1]]).endswith("broken file") and "not numbers" in str(errors[keys[2]])
    with pytest.raises(MissingPosesError, match=r"clip1\.mp4 has no joints in"):
        EvaluationJoints([ListEntry(clip.name, clip, 0) for clip in clips], SAMPLING, source)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"joints": ("nose", "tail")}, "has the joints nose, tail, but this version"),
        ({"shape": [8, 2, 15, 4]}, "the joints of 2 persons, but the model sees 1; set model.persons to 2"),
        (
            {"shape": [4, 1, 15, 4]},
            r"4 frames of each clip, but the model takes 8; .* or train a model of 4: set model\.sample_frames",
        ),
        ({"shape": [8, 15]}, r"damaged metadata \(sefar.poses: shape"),
    ],
)
def test_other_joints_are_refused(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    write(tmp_path / "features" / "a.parquet", [], **changes)
    with pytest.raises(StoredJointsError, match=told):
        JointShards(tmp_path / "features", tmp_path, 1, 8)


def test_files_without_joints_or_of_several_estimators_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "features"
    file = write(folder / "a.parquet", [])
    write(folder / "b.parquet", [], estimator_sha256="1" * 64)
    with pytest.raises(StoredJointsError, match=r"several pose estimators, a\.parquet of fake"):
        JointShards(folder, tmp_path, 1, 8)
    (folder / "b.parquet").unlink()
    table = pq.read_table(file)
    pq.write_table(table.drop_columns(["poses"]), file)
    with pytest.raises(StoredJointsError, match="in other files; extract them with --format parquet"):
        JointShards(folder, tmp_path, 1, 8)
    pq.write_table(table.replace_schema_metadata({}), file)
    with pytest.raises(StoredJointsError, match="has no joints; extract them with `sefar extract --poses`"):
        JointShards(folder, tmp_path, 1, 8)


def test_a_recipe_trains_on_them_unless_another_estimator_would_serve_it(clips: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "features"
    write(folder / "a.parquet", [row(clip, joints_of(n)) for n, clip in enumerate(clips)])
    (tmp_path / "train.csv").write_text("".join(f"{clip.name} {n % 2}\n" for n, clip in enumerate(clips)))
    config = TrainConfig.model_validate(
        {
            "out": tmp_path / "run",
            "model": {"stream": "pose"},
            "data": {"root": tmp_path, "train": "train.csv", "joints": folder},
            "optim": {"epochs": 1},
        }
    )
    inputs = JointInputs(config, FakeEstimator(), progress=False)
    assert inputs.origin == (FakeEstimator.name, FakeEstimator.sha256)
    assert inputs.labelled(Path("train.csv"))[0, 0]["inputs"].shape == (8, 1, 15, 4)
    with pytest.raises(StoredJointsError, match=r"of the pose estimator fake .* finds joints with another"):
        JointInputs(config, None, progress=False)


def test_extracted_joints_need_no_videos_and_are_found_from_the_root(clips: list[Path], tmp_path: Path) -> None:
    write(tmp_path / "features" / "a.parquet", [row(clip, joints_of(n)) for n, clip in enumerate(clips)])
    for name in ("train", "val", "test"):
        (tmp_path / f"{name}.csv").write_text("".join(f"{clip.name} {n % 2}\n" for n, clip in enumerate(clips)))
    for clip in clips:
        clip.unlink()
    config = TrainConfig.model_validate(
        {
            "out": tmp_path / "run",
            "model": {"stream": "pose", "architecture": {"dim": 256, "depth": 0, "heads": 2, "stem": "joints"}},
            "data": {
                "root": tmp_path,
                "train": "train.csv",
                "val": "val.csv",
                "test": "test.csv",
                "labels": None,
                "joints": "features",
            },
            "optim": {"epochs": 1, "batch_size": 4, "precision": "fp32"},
        }
    )
    final = train(config, progress=False, estimator=FakeEstimator())
    found = evaluate_model(
        final, tmp_path / "test.csv", tmp_path, progress=False, joints=tmp_path / "features", estimator=FakeEstimator()
    )
    assert found.top1 == read_info(final).metrics["test"]["top1"]
    with pytest.raises(MissingClipsError, match=r"4 of 4 clips of .*test\.csv do not exist: clip0\.mp4"):
        evaluate_model(final, tmp_path / "test.csv", tmp_path, progress=False, estimator=FakeEstimator())


def test_a_folder_of_joints_that_does_not_exist_is_not_created(tmp_path: Path) -> None:
    with pytest.raises(
        StoredJointsError,
        match=r"no folder of joints .*typo; a relative path starts at the folder of the videos, .*create the folder",
    ):
        open_joints(tmp_path / "typo", tmp_path, 1, 8)
    assert not (tmp_path / "typo").exists()


def test_frames_that_are_not_spread_evenly_are_interpolated() -> None:
    times = np.array([0.4, 0.44, 0.48, 0.1, 0.9, 0.9])
    joints = np.repeat(times, 60).reshape(6, 1, 15, 4).astype(np.float32)
    found = in_time(joints, times, 1.0)
    assert found.shape == (48, 1, 15, 4) and found.dtype == np.float32
    even = (np.arange(48) + 0.5) / 48
    np.testing.assert_allclose(found[:, 0, 0, 0], np.clip(even, 0.1, 0.9), atol=1e-6)
